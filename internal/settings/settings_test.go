package settings_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/settings"
)

type common struct {
	Level string `env:"T_LEVEL" default:"low" enum:"low,high" help:"One of ${enum}."`
}

type options struct {
	common
	URL   string         `env:"T_URL" default:"amqp://a/" secret:""`
	Wait  time.Duration  `name:"wait-for" env:"T_WAIT" default:"2s"`
	Many  int            `env:"T_MANY" default:"3"`
	Large int64          `env:"T_LARGE"`
	Rate  float64        `env:"T_RATE" default:"0"`
	On    bool           `env:"T_ON"`
	List  []string       `env:"T_LIST"`
	Each  map[string]int `env:"T_EACH"`
	File  string         `env:"T_FILE" type:"path"`
	Print bool           `help:"Print."`

	Serve  struct{} `cmd:"" default:"1" help:"Serve."`
	Health struct{} `cmd:"" help:"Look."`
}

func (o *options) Validate() error {
	if o.Many == 0 {
		return errors.New("T_MANY: must not be 0")
	}
	return nil
}

func parse(env map[string]string, args ...string) (o options, command string, err error) {
	command, err = settings.Parse(&o, args, func(name string) (string, bool) {
		value, set := env[name]
		return value, set
	})
	return o, command, err
}

func TestFlagsComeBeforeVariablesAndTheseBeforeDefaults(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	require.NoError(t, err)
	home, err := os.UserHomeDir()
	require.NoError(t, err)
	env := map[string]string{
		"T_URL": "redis://b/", "T_WAIT": "1m", "T_MANY": "-7", "T_LARGE": "9000000000", "T_RATE": "0.5", "T_ON": "yes",
		"T_LIST": "a,b", "T_EACH": "x=1,y=2", "T_LEVEL": "high", "T_FILE": "~/key.pem",
	}
	all := options{
		common: common{"high"}, URL: "redis://b/", Wait: time.Minute, Many: -7, Large: 9e9, Rate: 0.5, On: true,
		List: []string{"a", "b"}, Each: map[string]int{"x": 1, "y": 2}, File: filepath.Join(home, "key.pem"),
	}
	standard := options{common: common{"low"}, URL: "amqp://a/", Wait: 2 * time.Second, Many: 3}
	for name, c := range map[string]struct {
		env     map[string]string
		args    []string
		command string
		want    func(*options)
	}{
		"defaults":          {want: func(o *options) { *o = standard }},
		"variables":         {env: env, want: func(*options) {}},
		"flags":             {env: env, args: []string{"--url=", "--wait-for", "3s", "-many=4"}, want: func(o *options) { o.URL, o.Wait, o.Many = "", 3*time.Second, 4 }},
		"a flag alone":      {env: env, args: []string{"--print", "--on=false"}, want: func(o *options) { o.Print, o.On = true, false }},
		"a list that grows": {env: env, args: []string{"--list=c", "--list=d,e", "--each=z=3"}, want: func(o *options) { o.List, o.Each = []string{"c", "d", "e"}, map[string]int{"z": 3} }},
		"a path":            {env: env, args: []string{"--file=key.pem"}, want: func(o *options) { o.File = filepath.Join(here, "key.pem") }},
		"empty ones":        {env: map[string]string{"T_URL": "", "T_LIST": "", "T_FILE": ""}, want: func(o *options) { *o = standard; o.URL = "" }},
		"a command":         {env: env, args: []string{"health"}, command: "health", want: func(*options) {}},
		"flags around it":   {env: env, args: []string{"--many=4", "health", "--wait-for=3s"}, command: "health", want: func(o *options) { o.Wait, o.Many = 3*time.Second, 4 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, command, err := parse(c.env, c.args...)
			require.NoError(t, err)
			want := all
			c.want(&want)
			require.Equal(t, want, got)
			if c.command == "" {
				c.command = "serve"
			}
			require.Equal(t, c.command, command)
		})
	}
}

func TestEveryVariableThatIsWrongIsNamedAndStaysAtItsDefault(t *testing.T) {
	t.Parallel()
	got, _, err := parse(map[string]string{
		"T_LEVEL": "medium", "T_WAIT": "soon", "T_MANY": "few", "T_LARGE": "1e3", "T_RATE": "fast", "T_ON": "maybe", "T_EACH": "x", "T_LIST": "fine",
	})
	require.EqualError(t, err, `T_LEVEL: must be one of low, high, is "medium"
T_WAIT: must be a duration such as 1m30s, is "soon"
T_MANY: must be a whole number, is "few"
T_LARGE: must be a whole number, is "1e3"
T_RATE: must be a number, is "fast"
T_ON: must be true or false, is "maybe"
T_EACH: must be name=value, several separated by commas, is "x"`)
	require.Equal(t, options{common: common{"low"}, URL: "amqp://a/", Wait: 2 * time.Second, Many: 3, List: []string{"fine"}}, got)

	_, _, err = parse(map[string]string{"T_WAIT": "soon", "T_MANY": "0"})
	require.ErrorContains(t, err, "T_WAIT: ")
	require.ErrorContains(t, err, "T_MANY: must not be 0", "what makes no sense is told with what cannot be read")
}

func TestArgumentsThatAreWrong(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"-gone":                    {"--gone=1"},
		"must be a whole number":   {"--many=few"},
		"must be one of low, high": {"--level", "medium"},
		"needs an argument":        {"--url"},
		`unexpected argument "go"`: {"health", "go"},
		`unexpected argument "up"`: {"up"},
		"must be name=value":       {"--each=x=1", "--each=y"},
		"x: must be a whole":       {"--each=x=y"},
	} {
		_, command, err := parse(nil, args...)
		require.ErrorContains(t, err, want)
		require.Empty(t, command)
	}
}

func TestHelpTellsWhatThereIsAndNotWhatIsSet(t *testing.T) {
	t.Parallel()
	o, _, err := parse(map[string]string{"T_URL": "amqp://s3cret@a/", "T_WAIT": "soon"}, "health", "--help")
	require.Equal(t, flag.ErrHelp, err)
	var out strings.Builder
	require.NoError(t, settings.Help(&out, "test", "Tests.", &o))
	require.NotContains(t, out.String(), "s3cret")
	for _, s := range settings.Of(&o) {
		require.Contains(t, out.String(), "--"+s.Name)
		require.Contains(t, out.String(), s.Env)
	}
	require.Contains(t, out.String(), "  health\n        Look.\n")
	require.Contains(t, out.String(), "  --level=low, T_LEVEL\n        One of low, high.\n")
	require.Contains(t, out.String(), "  --print\n        Print.\n")
}

func TestSettingsAreWrittenAsTheirVariablesHoldThem(t *testing.T) {
	t.Parallel()
	env := map[string]string{"T_EACH": "x=1,y=2", "T_LIST": "a,b", "T_WAIT": "1m0s", "T_MANY": "7", "T_ON": "true", "T_URL": "b"}
	o, _, err := parse(env)
	require.NoError(t, err)
	for _, s := range settings.Of(&o) {
		if want, set := env[s.Env]; set {
			require.Equal(t, want, s.String())
			require.False(t, s.IsZero())
		}
		require.Equal(t, s.Name == "url", s.Secret)
	}
}
