// Package access says who may do what: API keys, of which only a hash is kept,
// the scopes and patterns that they are given, where they are kept, and how
// often they may be used.
package access
