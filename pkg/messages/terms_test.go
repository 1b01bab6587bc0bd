package messages_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestTermsAreThePlainValuesOfIndexedFields(t *testing.T) {
	t.Parallel()
	input := json.RawMessage(`{"user_id": 42, "e\u006dail": "\u00fc@x", "vip": true, "none": null, "list": [1], "object": {"user_id": 1},
		"long": "` + strings.Repeat("x", messages.MaxTerm) + `", "other": 1, "big": 12345678901234567890.50}`)
	fields := []string{"user_id", "email", "vip", "none", "list", "object", "long", "big", "absent"}
	require.ElementsMatch(t, []string{"user_id=42", "email=ü@x", "vip=true", "big=12345678901234567890.50"}, messages.Terms(input, fields))
	require.Empty(t, messages.Terms(input, nil))
	require.Empty(t, messages.Terms(json.RawMessage(`{}`), fields))
}
