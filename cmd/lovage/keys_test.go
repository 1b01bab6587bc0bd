package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/access"
)

// keysOf runs a command of keys on a file.
func keysOf(t *testing.T, file string, args ...string) (code int, out, err string) {
	t.Helper()
	a := &app{out: new(bytes.Buffer), err: new(bytes.Buffer)}
	var c commands
	parser, broken := newParserOf(t, &c, a)
	require.NoError(t, broken)
	parsed, wrong := parser.Parse(append([]string{"keys", "--keys-file", file}, args...))
	require.NoError(t, wrong)
	a.globals = c.globals
	code = a.fail(parsed.Run())
	return code, printed(a), a.err.(*bytes.Buffer).String()
}

func TestKeysAreMadeListedRotatedAndRevoked(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	code, first, said := keysOf(t, file, "create", "shop", "--scope", "submit,read", "--task", "mail.*", "--queue", "mail", "--rate", "5", "--expires", "1h")
	require.Zero(t, code, said)
	first = strings.TrimSpace(first)
	require.NotContains(t, said, first, "it is printed once")
	code, _, said = keysOf(t, file, "create", "shop", "--scope", "read")
	require.Equal(t, exitUsage, code)
	require.Contains(t, said, "rotate")
	code, second, said := keysOf(t, file, "rotate", "shop")
	require.Zero(t, code, said)
	second = strings.TrimSpace(second)

	keys := access.NewKeyring(nil, zap.NewNop(), access.File{Path: file})
	require.NoError(t, keys.Refresh(t.Context()))
	for _, token := range []string{first, second} {
		grant, err := keys.Check(token, time.Now())
		require.NoError(t, err)
		require.Equal(t, &access.Grant{
			Who: "shop", KeyID: grant.KeyID, Scopes: []access.Scope{access.Submit, access.Read},
			Tasks: []access.Pattern{"mail.*"}, Queues: []access.Pattern{"mail"}, Rate: access.Rate{PerSecond: 5},
		}, grant)
	}

	_, list, _ := keysOf(t, file, "list", "-o", "json")
	var listed []map[string]any
	require.NoError(t, json.Unmarshal([]byte(list), &listed))
	require.Len(t, listed, 2)
	require.Equal(t, "active", listed[0]["state"])
	for _, token := range []string{first, second} {
		require.NotContains(t, list, token[17:])
	}
	code, _, said = keysOf(t, file, "revoke", "shop")
	require.Zero(t, code, said)
	require.NoError(t, keys.Refresh(t.Context()))
	for _, token := range []string{first, second} {
		_, err := keys.Check(token, time.Now())
		require.ErrorIs(t, err, access.ErrRevoked)
	}
	code, _, said = keysOf(t, file, "revoke", "shop")
	require.Equal(t, exitUsage, code, said)
	_, table, _ := keysOf(t, file, "list")
	require.Equal(t, 2, strings.Count(table, "revoked"))
}

func TestWhatKeysCannotBe(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	for _, args := range [][]string{
		{"create", "a b", "--scope", "read"},
		{"create", "a", "--scope", "read", "--rate=-1"},
		{"rotate", "nobody"},
		{"revoke", "nobody"},
	} {
		code, out, _ := keysOf(t, file, args...)
		require.Equal(t, exitUsage, code, args)
		require.Empty(t, out)
	}
	require.NoFileExists(t, file)
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	code, _, said := keysOf(t, file, "list")
	require.Equal(t, exitFailure, code)
	require.Contains(t, said, file)
}

func TestAKeyIsReadFromItsFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte("k\n"), 0o600))
	key, err := readKey("", file)
	require.NoError(t, err)
	require.Equal(t, "k", key)
	key, err = readKey("nearer", file)
	require.NoError(t, err)
	require.Equal(t, "nearer", key)
	_, err = readKey("", file+"x")
	require.Error(t, err)
	_, err = readKey("a\nb", "")
	require.ErrorContains(t, err, "characters")
	require.NotContains(t, err.Error(), "\n", "an error must not show a key")
}
