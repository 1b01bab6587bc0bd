package messages_test

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// report is a JSON value of at least n bytes, of the kind that tasks return.
func report(tb testing.TB, n int) json.RawMessage {
	tb.Helper()
	var out bytes.Buffer
	out.WriteByte('[')
	for i := 0; out.Len() < n; i++ {
		if i > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, `{"id":%d,"name":"customer %d","total":%d.%02d,"paid":%t,"note":"<b>%x</b>"}`, i, i*7919%1000, i*31%977, i%100, i%3 == 0, i*2654435761)
	}
	out.WriteByte(']')
	require.True(tb, json.Valid(out.Bytes()))
	return out.Bytes()
}

func success(value json.RawMessage) *messages.Result {
	return &messages.Result{TaskID: "a", State: messages.Success, Value: value}
}

// stored takes a result through its record.
func stored(tb testing.TB, r *messages.Result) *messages.Result {
	tb.Helper()
	record, err := messages.EncodeResult(r)
	require.NoError(tb, err)
	out, err := messages.DecodeResult(record)
	require.NoError(tb, err)
	return out
}

func TestPackedResultComesBack(t *testing.T) {
	t.Parallel()
	value := report(t, 100_000)
	r := success(value)
	r.Pack()
	require.Empty(t, r.Value)
	require.Equal(t, len(value), r.PackedSize)
	require.Less(t, len(r.Packed), len(value)/2)
	got := stored(t, r)
	require.Equal(t, r, got, "it stays packed until somebody asks")
	require.NoError(t, got.Unpack())
	require.Equal(t, string(value), string(got.Value), "to the letter")
	require.NoError(t, got.Unpack())
	require.Equal(t, success(value), got)
}

func TestWhatDoesNotBecomeSmallerIsNotPacked(t *testing.T) {
	t.Parallel()
	for _, value := range []string{``, `1`, `"a short text"`, strings.Repeat("not JSON ", 100), "\"" + strings.Repeat("\xff", 100) + "\""} {
		r := success(json.RawMessage(value))
		r.Pack()
		require.Equal(t, success(json.RawMessage(value)), r)
	}
}

// packedRecord is a record as anybody could write it.
func packedRecord(t *testing.T, value string, size int) *messages.Result {
	t.Helper()
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	_, err := w.Write([]byte(value))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	r, err := messages.DecodeResult(fmt.Appendf(nil, `{"status":"SUCCESS","task_id":"a","result":%q,"result_encoding":"zlib+base64","result_size":%d}`,
		base64.StdEncoding.EncodeToString(out.Bytes()), size))
	require.NoError(t, err)
	return r
}

func TestUnpackingIsBounded(t *testing.T) {
	t.Parallel()
	bomb := `"` + strings.Repeat("x", messages.ResultLimit) + `"`
	for _, size := range []int{0, 1, 1000, len(bomb)} {
		r := packedRecord(t, bomb, size)
		err := r.Unpack()
		require.ErrorIs(t, err, messages.ErrTooLarge, size)
		require.ErrorIs(t, err, messages.ErrNotResult)
		require.Empty(t, r.Value)
	}
}

func TestWhatCannotBeUnpackedIsNoResult(t *testing.T) {
	t.Parallel()
	truncated := packedRecord(t, string(report(t, 1000)), 1000)
	truncated.Packed = truncated.Packed[:len(truncated.Packed)/8*4]
	text := packedRecord(t, `"abc"`, 5)
	text.Packed = []byte("no base64")
	other := packedRecord(t, `"abc"`, 5)
	other.Packed = []byte(base64.StdEncoding.EncodeToString([]byte("no zlib")))
	for name, r := range map[string]*messages.Result{
		"shorter than it says": packedRecord(t, `"abc"`, 6),
		"no JSON":              packedRecord(t, `abc`, 3),
		"no UTF-8":             packedRecord(t, "\"\xff\"", 3),
		"truncated":            truncated,
		"no base64":            text,
		"no zlib":              other,
	} {
		require.ErrorIs(t, r.Unpack(), messages.ErrNotResult, name)
	}
}

// A string is packed where the record says so, and only a result.
func TestStringIsNotTakenForAPackedResult(t *testing.T) {
	t.Parallel()
	for _, record := range []string{
		`{"status":"SUCCESS","task_id":"a","result":"eJw="}`,
		`{"status":"SUCCESS","task_id":"a","result":"eJw=","result_encoding":"rot13","result_size":5}`,
		`{"status":"CUSTOM","task_id":"a","result":"eJw=","result_encoding":"zlib+base64","result_size":5}`,
	} {
		r, err := messages.DecodeResult([]byte(record))
		require.NoError(t, err)
		require.NoError(t, r.Unpack())
		require.JSONEq(t, `"eJw="`, string(r.Value))
	}
}

// BenchmarkResult is what a result of 1 MB costs from the value to the record
// and back, with and without compression.
func BenchmarkResult(b *testing.B) {
	value := report(b, 1<<20)
	for name, pack := range map[string]bool{"plain": false, "packed": true} {
		r := success(value)
		if pack {
			r.Pack()
		}
		record, err := messages.EncodeResult(r)
		require.NoError(b, err)
		b.Run("write/"+name, func(b *testing.B) {
			for b.Loop() {
				r := success(value)
				if pack {
					r.Pack()
				}
				_, err := messages.EncodeResult(r)
				require.NoError(b, err)
			}
			b.ReportMetric(float64(len(record)), "bytes")
		})
		b.Run("read/"+name, func(b *testing.B) {
			for b.Loop() {
				r, err := messages.DecodeResult(record)
				require.NoError(b, err)
				require.NoError(b, r.Unpack())
			}
			b.ReportMetric(float64(len(record)), "bytes")
		})
	}
}
