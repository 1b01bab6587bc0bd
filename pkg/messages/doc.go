// Package messages is the contract between everything that speaks Lovage: the
// task message, the result record, the states, the catalog entry and the
// errors that both services act on.
//
// The native message is Celery's message protocol version 2 and the native
// result is the record of Celery's Redis result backend, so Celery clients and
// workers take part without an adapter. The package depends on the standard
// library only; payloads pass through it as raw JSON.
package messages
