package messages_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func BenchmarkEncode(b *testing.B) {
	task, err := messages.Decode(vector(b, "simple"))
	require.NoError(b, err)
	task.ArgsRepr, task.KwargsRepr, task.Origin = "", "", "gen1@host"
	b.ReportAllocs()
	for b.Loop() {
		if _, err := messages.Encode(task); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"simple", "options", "chain|group|task", "stamped", "gzip"} {
		m := vector(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := messages.Decode(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodeResult(b *testing.B) {
	result, err := messages.DecodeResult(successRecord(b))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := messages.EncodeResult(result); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeResult(b *testing.B) {
	record := successRecord(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := messages.DecodeResult(record); err != nil {
			b.Fatal(err)
		}
	}
}

// successRecord is the record of the first SUCCESS among the vectors.
func successRecord(b *testing.B) []byte {
	b.Helper()
	for _, v := range readLines[resultVector](b, "celery-5.6-results.jsonl") {
		if r, err := messages.DecodeResult(v.Value); err == nil && r.State == messages.Success {
			return v.Value
		}
	}
	b.Fatal("no SUCCESS among the vectors")
	return nil
}
