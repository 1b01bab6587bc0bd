package report_test

import (
	"encoding/xml"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/bench/internal/report"
)

// measured is a book with two rounds of two measures, taken down in turn.
func measured() *report.Book {
	b := &report.Book{}
	for _, round := range []struct{ ours, theirs, ourP99, theirP99 float64 }{{80, 100, 12.34, 10}, {120, 100, 14, 10}} {
		b.Add("submit", "lovage", "1/s", round.ours)
		b.Add("submit-p99", "lovage", "ms", round.ourP99)
		b.Add("submit", "floor", "1/s", round.theirs)
		b.Add("submit-p99", "floor", "ms", round.theirP99)
	}
	b.Compare(report.Comparison{Measure: "submit", Ours: "lovage", Contender: "floor", Target: report.AtLeast(0.9)})
	b.Compare(report.Comparison{Measure: "submit-p99", Ours: "lovage", Contender: "floor", Target: report.AtMost(1.2)})
	b.Note("submit", "floor", "a queue")
	return b
}

func TestTableHasMediansSpreadRatiosAndTargets(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, measured().WriteTable(&out))
	require.Equal(t, strings.TrimLeft(`
measure     contender  value  unit    min..max  ratio    min..max  target         kept by
submit      lovage       100  1/s    80.0..120
submit      floor        100  1/s     100..100   1.00  0.80..1.20  ≥ 0.9 met      a queue

submit-p99  lovage      13.2  ms    12.3..14.0
submit-p99  floor       10.0  ms    10.0..10.0   1.32  1.23..1.40  ≤ 1.2 not met
`, "\n"), out.String())
}

func TestListHasMediansAndRatios(t *testing.T) {
	t.Parallel()
	require.Equal(t, []report.Value{
		{Measure: "submit", Contender: "lovage", Value: 100, Unit: "1/s"},
		{Measure: "submit", Contender: "floor", Value: 100, Unit: "1/s"},
		{Measure: "submit", Contender: "lovage/floor", Value: 1, Unit: "ratio"},
		{Measure: "submit-p99", Contender: "lovage", Value: 13.17, Unit: "ms"},
		{Measure: "submit-p99", Contender: "floor", Value: 10, Unit: "ms"},
		{Measure: "submit-p99", Contender: "lovage/floor", Value: 1.317, Unit: "ratio"},
	}, measured().List())
}

func TestJSONIsAListOfFigures(t *testing.T) {
	t.Parallel()
	b := &report.Book{}
	b.Add("batch", "lovage", "1/s", 20000)
	var out strings.Builder
	require.NoError(t, b.WriteJSON(&out))
	require.JSONEq(t, `[{"measure":"batch","contender":"lovage","value":20000,"unit":"1/s"}]`, out.String())
}

func TestRatioIsTheMedianOfTheRoundsAndNotTheRatioOfMedians(t *testing.T) {
	t.Parallel()
	b := &report.Book{}
	for _, v := range [][2]float64{{1, 1}, {2, 4}, {30, 40}} {
		b.Add("m", "lovage", "1/s", v[0])
		b.Add("m", "floor", "1/s", v[1])
	}
	b.Compare(report.Comparison{Measure: "m", Ours: "lovage", Contender: "floor"})
	require.Contains(t, b.List(), report.Value{Measure: "m", Contender: "lovage/floor", Value: 0.75, Unit: "ratio"})
}

func TestRatioToNothingIsNoFigure(t *testing.T) {
	t.Parallel()
	b := &report.Book{}
	b.Add("cpu-redis", "lovage", "µs", 20)
	b.Add("cpu-redis", "floor", "µs", 0)
	b.Compare(report.Comparison{Measure: "cpu-redis", Ours: "lovage", Contender: "floor"})
	require.Len(t, b.List(), 2)
	require.NoError(t, b.WriteJSON(&strings.Builder{}))
}

func TestWhatWasNotMeasuredIsNotCompared(t *testing.T) {
	t.Parallel()
	b := &report.Book{}
	b.Add("m", "floor", "1/s", 1)
	b.Compare(report.Comparison{Measure: "m", Ours: "lovage", Contender: "floor", Target: report.AtLeast(1)})
	b.Expect("m", "lovage", report.AtMost(1))
	require.Len(t, b.List(), 1)
}

func TestAValueCanHaveATarget(t *testing.T) {
	t.Parallel()
	b := &report.Book{}
	b.Add("memory", "lovage", "kB", 35)
	b.Expect("memory", "lovage", report.AtMost(35))
	var out strings.Builder
	require.NoError(t, b.WriteTable(&out))
	require.Contains(t, out.String(), "≤ 35 met")
}

func TestFailureIsARowAndDoesNotLoseTheOthers(t *testing.T) {
	t.Parallel()
	b := measured()
	b.Fail("submit", "celery", errors.New("it has ended:\n  no memory"))
	b.Fail("submit-p99", "floor", errors.New(strings.Repeat("long ", 100)))
	b.Compare(report.Comparison{Measure: "submit", Ours: "lovage", Contender: "celery"})
	require.Equal(t, 2, b.Failures())
	var out strings.Builder
	require.NoError(t, b.WriteTable(&out))
	require.Regexp(t, `submit +celery +failed +failed: it has ended: no memory\n`, out.String())
	require.Regexp(t, `submit-p99 +floor +10\.0 .*failed: long long.*…\n`, out.String())
	require.Len(t, b.List(), 6)
}

func TestAimsAreMetOrNotOrNotMeasured(t *testing.T) {
	t.Parallel()
	b := measured()
	aims := []report.Aim{
		{"as fast", "submit", "lovage", "floor", report.AtLeast(0.9)},
		{"as soon", "submit-p99", "lovage", "floor", report.AtMost(1.2)},
		{"within", "submit-p99", "lovage", "", report.AtMost(15)},
		{"faster", "submit", "lovage", "celery", report.AtLeast(10)},
		{"small", "memory", "lovage", "", report.AtMost(1)},
	}
	b.Judge(aims)
	var out strings.Builder
	require.NoError(t, b.WriteAims(&out, aims))
	require.Equal(t, `
target   measure     value  unit  of      ratio  target  verdict
as fast  submit        100  1/s   floor    1.00  ≥ 0.9   met
as soon  submit-p99   13.2  ms    floor    1.32  ≤ 1.2   not met
within   submit-p99   13.2  ms                   ≤ 15    met
faster   submit        100  1/s   celery      -  ≥ 10    not measured
small    memory          -                       ≤ 1     not measured
`, out.String())
	out.Reset()
	require.NoError(t, b.WriteTable(&out))
	require.Contains(t, out.String(), "≤ 1.2 not met")
	require.Contains(t, out.String(), "≤ 15 met")
}

func TestPlotHasAPanelForWhatHasANote(t *testing.T) {
	t.Parallel()
	b := measured()
	b.Add("submit", "a<b", "1/s", 50)
	b.Note("submit", "a<b", "a list")
	var out strings.Builder
	b.Add("submit", "many", "1/s", 12345678)
	b.Note("submit", "many", "a list")
	b.Add("other", "floor", "1/s", 1)
	b.Note("other", "floor", "a list")
	b.Fail("submit", "celery", errors.New("it has ended"))
	require.NoError(t, b.WriteSVG(&out, report.Plot{
		Title: "All & sundry", Ours: "lovage",
		Sections: []report.Section{{Title: "Submitting", Names: []string{"submit"}}, {Title: "Nothing", Names: []string{"nothing"}}},
	}))
	require.NoError(t, xml.Unmarshal([]byte(out.String()), new(struct{})))
	const legend, bars = 3, 3
	require.Equal(t, legend+bars, strings.Count(out.String(), "<rect x="), out.String())
	for _, text := range []string{"All &amp; sundry", "Submitting", "a&lt;b", "1.00×", "≥ 0.9 met", "12,345,678", "celery", "failed", "more is better"} {
		require.Contains(t, out.String(), text)
	}
	for _, text := range []string{"submit-p99", "Nothing", "other<"} {
		require.NotContains(t, out.String(), text)
	}
}

func TestVersusBelievesWhatIsNoChance(t *testing.T) {
	t.Parallel()
	b := &report.Book{}
	for _, v := range []float64{1, 2, 3, 4} {
		b.Add("faster", "base", "1/s", 10+v)
		b.Add("faster", "lovage", "1/s", 20+v)
		b.Add("same", "base", "ms", v)
		b.Add("same", "lovage", "ms", v)
		b.Add("alone", "lovage", "ms", v)
	}
	var out strings.Builder
	require.NoError(t, b.WriteVersus(&out, "base", "lovage"))
	require.Contains(t, out.String(), "+80.0 %  p=0.029")
	require.Contains(t, out.String(), "~  p=1.000")
	require.NotContains(t, out.String(), "alone")
}
