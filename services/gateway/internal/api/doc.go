// Package api is the HTTP API of the gateway: submit a task, read its record,
// list tasks and the catalog, and the OpenAPI document that describes it all.
//
// A request passes middleware.go (request id, log, panics, security headers),
// hosts.go and headers.go (who may ask, and how), then route.go, the only file
// that knows Echo and huma, and arrives at a handler that returns a reply or an
// error. problem.go turns each error into its answer.
package api
