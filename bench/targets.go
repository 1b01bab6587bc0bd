package main

import (
	"fmt"

	"github.com/lovage-mq/lovage/bench/internal/report"
)

const (
	// manyClients is what the floors are made for, and what the targets are about.
	manyClients = 64
	// manySlots are those of a worker that works off a queue, drainTarget the part
	// of the throughput of a loop that it is to reach.
	manySlots   = 256
	drainTarget = 0.45
	// pickUpRate is what the targets are about.
	pickUpRate = 300
	// muchWaits and moreWaits are how many tasks wait when growth is compared.
	muchWaits, moreWaits = 60_000, 1_000_000
)

// aims are the targets of the project, on two processors with everything on them.
func aims() []report.Aim {
	submit, pickUp := fmt.Sprintf("submit-%d", manyClients), fmt.Sprintf("pickup-%d", pickUpRate)
	list := []report.Aim{
		{Of: "submissions", Measure: submit, Ours: ours, Against: celery, Target: report.AtLeast(10)},
		{Of: "submissions, same bytes", Measure: submit, Ours: ours, Against: floorName, Target: report.AtLeast(0.9)},
		{Of: "submissions, two headers", Measure: submit, Ours: ours, Against: twoHeaders, Target: report.AtLeast(0.7)},
		{Of: "their time to answer", Measure: submit + "-p99", Ours: ours, Against: floorName, Target: report.AtMost(1.2)},
		{Of: "batches", Measure: "batch", Ours: ours, Against: floorName, Target: report.AtLeast(0.7)},
		{Of: "delayed batches", Measure: "delayed", Ours: ours, Against: floorName, Target: report.AtLeast(0.8)},
		{Of: "working off", Measure: "drain-noop", Ours: ours, Against: celery, Target: report.AtLeast(10)},
		{Of: "working off", Measure: "drain-noop", Ours: ours, Against: asynq, Target: report.AtLeast(2)},
		{Of: "working off", Measure: "drain-noop", Ours: ours, Against: floorName, Target: report.AtLeast(drainTarget)},
		{Of: "picking up", Measure: pickUp + "-p50", Ours: ours, Target: report.AtMost(3)},
		{Of: "picking up", Measure: pickUp + "-p99", Ours: ours, Target: report.AtMost(15)},
	}
	for _, peer := range peerNames() {
		for _, quantile := range []string{"-p50", "-p99"} {
			list = append(list, report.Aim{Of: "picking up, sooner", Measure: pickUp + quantile, Ours: ours, Against: peer, Target: report.AtMost(1)})
		}
	}
	return append(list,
		report.Aim{Of: "our part of the processor time", Measure: ownMeasure, Ours: ours, Target: report.AtMost(50)},
		report.Aim{Of: "growth, submissions", Measure: grown("submit", moreWaits), Ours: ours, Target: report.AtLeast(0.9)},
		report.Aim{Of: "growth, working off", Measure: grown("drain", moreWaits), Ours: ours, Target: report.AtLeast(0.9)},
		report.Aim{Of: "growth, memory of the gateway", Measure: grown("gateway", moreWaits), Ours: ours, Target: report.AtMost(steady)},
		report.Aim{Of: "growth, memory of the worker", Measure: grown("worker", moreWaits), Ours: ours, Target: report.AtMost(steady)},
		report.Aim{Of: "memory of a submission in flight", Measure: "inflight-rss-each", Ours: ours, Target: report.AtMost(35)},
		report.Aim{Of: "what it leaves behind", Measure: "inflight-again-each", Ours: ours, Target: report.AtMost(1)},
	)
}

// steady is by how much memory that does not grow may be greater than another
// time: the garbage collector does not come at the same moment.
const steady = 1.2

// ownMeasure is which part of the processor time of all processes but the clients
// goes to those of the contender itself, while tasks are submitted and worked off.
const ownMeasure = "own"

// addOwn takes down the part of the contenders themselves, once what a task costs
// is known for its way in and for its way out.
func (b *bench) addOwn() {
	in, out := fmt.Sprintf("submit-%d", manyClients)+cpuSuffix, "drain-noop"+cpuSuffix
	for _, name := range append([]string{ours}, peerNames()...) {
		if len(b.book.Values(ownMeasure, name)) > 0 {
			continue
		}
		sum := func(of string) []float64 {
			ways := [2][]float64{b.book.Values(in+of, name), b.book.Values(out+of, name)}
			list := make([]float64, min(len(ways[0]), len(ways[1])))
			for i := range list {
				list[i] = ways[0][i] + ways[1][i]
			}
			return list
		}
		own, all, load := sum("-service"), sum(""), sum("-load")
		for i := range min(len(own), len(all), len(load)) {
			b.book.Add(ownMeasure, name, "%", 100*own[i]/(all[i]-load[i]))
		}
	}
}
