package configdoc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/configdoc"
)

func TestTablesFollowTheProgram(t *testing.T) {
	t.Parallel()
	const page = `# Page

## Ours

| Variable | Flag | Default | Unit | Meaning |
| --- | --- | --- | --- | --- |
| ` + "`LOVAGE_GONE` | `--gone` | none | path | It has gone. |\n| `LOVAGE_B` | `--be` | `1` | tasks | How many, said at length. |" + `

## Others

| ` + "`LOVAGE_C` | `--c` | none | path | Of another program. |\n"
	got := configdoc.Tables(page, &struct {
		A bool `env:"LOVAGE_A" help:"Whether."`
		B int  `env:"LOVAGE_B" default:"2" help:"How many."`
		C int
	}{}, "Ours")
	require.Equal(t, `# Page

## Ours

| Variable | Flag | Default | Unit | Meaning |
| --- | --- | --- | --- | --- |
| `+"`LOVAGE_A` | `--a` | `false` | text | Whether. |\n| `LOVAGE_B` | `--b` | `2` | tasks | How many, said at length. |"+`

## Others

| `+"`LOVAGE_C` | `--c` | none | path | Of another program. |\n", got)
}
