// Package results keeps what is known about tasks in Redis: the record that
// Celery's clients read, the task record that decides who may run and settle
// an attempt, the newest-first index, and the catalog of what workers can do.
//
// Two keys belong to a task. The result record, [messages.ResultKey], is
// Celery's: JSON, written whole and published on the channel of the same name.
// The task record is ours: a hash in the same cluster slot with the run, the
// attempt, the owner's token and lease, the count of starts, the final state
// and the successor that must still be published. Every change of a task goes
// through one Lua script over both keys, so that no crash leaves one without
// the other; the scripts are in the folder lua, each with its promise.
//
// The keys: celery-task-meta-* and the channels of the same names, lovage:t:*,
// lovage:idem:*, lovage:{index}:*, lovage:in:*, lovage:catalog, lovage:workers, lovage:worker:*,
// lovage:paused, lovage:{operations}:*, lovage:{callbacks}:*, lovage:events.
//
// Every method takes its deadline from the context and gives up after about a
// second without one. An answer that does not come is
// [messages.ErrStoreUnavailable]. A call that failed may still have been
// carried out; every call can be made again: at worst a repeated
// [Store.Settle] answers [messages.ErrLost], and the next claim then says
// what stands.
package results
