package tasks

import (
	"bytes"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/worker"
)

func TestRegisterAnnouncesTheTasks(t *testing.T) {
	t.Parallel()
	w := worker.New(worker.Options{Queue: "mine"})

	require.NoError(t, Register(w, Config{}))

	params := map[string][]string{}
	for _, entry := range w.Catalog() {
		params[entry.Name] = entry.Params
		require.Equal(t, "mine", entry.Queue)
		require.NotEmpty(t, entry.Description)
		require.NotEmpty(t, entry.Output)
	}
	require.Equal(t, map[string][]string{
		"sleep_task":   {"duration"},
		"http_request": {"method", "url", "headers", "json", "timeout"},
		"thumbnail":    {"url", "image_base64", "width", "height", "format", "quality"},
	}, params)
}

func TestRegisterReportsEveryBadSetting(t *testing.T) {
	t.Parallel()
	w := worker.New(worker.Options{})

	err := Register(w, Config{SleepMax: -time.Second, HTTPAllow: []string{"http://a", "b c"}})

	require.ErrorContains(t, err, "LOVAGE_SLEEP_MAX")
	require.ErrorContains(t, err, `LOVAGE_HTTP_ALLOW: "http://a"`)
	require.ErrorContains(t, err, `LOVAGE_HTTP_ALLOW: "b c"`)
	require.Empty(t, w.Tasks())
}

func TestSchemasRefuseWhatTheTasksCannotDo(t *testing.T) {
	t.Parallel()
	w := worker.New(worker.Options{})
	require.NoError(t, Register(w, Config{}))
	schemas := map[string]*jsonschema.Schema{}
	for _, entry := range w.Catalog() {
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(entry.Input))
		require.NoError(t, err)
		compiler := jsonschema.NewCompiler()
		require.NoError(t, compiler.AddResource(entry.Name, document))
		schemas[entry.Name], err = compiler.Compile(entry.Name)
		require.NoError(t, err)
	}
	tests := []struct {
		task, input string
		valid       bool
	}{
		{"sleep_task", `{"duration": 1}`, true},
		{"sleep_task", `{"duration": 300}`, true},
		{"sleep_task", `{"duration": 1.5}`, true},
		{"sleep_task", `{"duration": 0.5}`, false},
		{"sleep_task", `{"duration": 301}`, false},
		{"sleep_task", `{"duration": "5"}`, false},
		{"sleep_task", `{}`, false},
		{"http_request", `{"url": "https://a"}`, true},
		{"http_request", `{"url": "https://a", "method": "HEAD", "headers": {"a": "b"}, "json": [1, null], "timeout": 300}`, true},
		{"http_request", `{"url": "https://a", "json": null}`, true},
		{"http_request", `{"url": "https://a", "method": "TRACE"}`, false},
		{"http_request", `{"url": "https://a", "headers": {"a": 1}}`, false},
		{"http_request", `{"url": "https://a", "timeout": 301}`, false},
		{"http_request", `{"url": "https://a", "timeout": 0.9}`, false},
		{"http_request", `{"url": ""}`, false},
		{"http_request", `{"method": "GET"}`, false},
		{"thumbnail", `{"url": "https://a", "width": 1, "height": 4096}`, true},
		{"thumbnail", `{"image_base64": "AA==", "width": 1, "height": 1, "format": "jpeg", "quality": 100}`, true},
		{"thumbnail", `{"width": 1, "height": 1}`, false},
		{"thumbnail", `{"url": "https://a", "image_base64": "AA==", "width": 1, "height": 1}`, false},
		{"thumbnail", `{"url": "https://a", "width": 0, "height": 1}`, false},
		{"thumbnail", `{"url": "https://a", "width": 1, "height": 4097}`, false},
		{"thumbnail", `{"url": "https://a", "width": 1, "height": 1, "format": "gif"}`, false},
		{"thumbnail", `{"url": "https://a", "width": 1, "height": 1, "quality": 0}`, false},
		{"thumbnail", `{"url": "https://a", "width": 1, "height": 1, "extra": 0}`, false},
	}
	for _, tt := range tests {
		input, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(tt.input)))
		require.NoError(t, err)
		err = schemas[tt.task].Validate(input)
		require.Equal(t, tt.valid, err == nil, "%s %s: %v", tt.task, tt.input, err)
	}
}
