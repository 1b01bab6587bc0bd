package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lovage-mq/lovage/pkg/client"
)

const defaultGateway = "http://127.0.0.1:8080"

// config is the configuration file.
type config struct {
	// Default is the profile that counts when nothing else is said.
	Default  string             `json:"default"`
	Profiles map[string]profile `json:"profiles"`
}

type profile struct {
	Gateway string `json:"gateway"`
	APIKey  string `json:"api_key"`
	// APIKeyFile holds the key in the place of APIKey.
	APIKeyFile string `json:"api_key_file"`
}

func configPath() (string, error) {
	dir, err := os.UserConfigDir()
	return filepath.Join(dir, "lovage", "config.json"), err
}

// readConfig reads the configuration file, which need not exist.
func readConfig() (config, error) {
	var c config
	path, err := configPath()
	if err != nil {
		return c, nil //nolint:nilerr // a user without a home has no file
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, wrong("%w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return c, wrong("%s: %w", path, err)
	}
	return c, nil
}

// connect finds the gateway. What is said on the command line counts before the
// environment, and that before the file. A key goes to the gateway that it was
// given for, and to no other.
func (a *app) connect(getenv func(string) string) (*client.Client, error) {
	address, key, keyFile := cmp.Or(a.Gateway, getenv("LOVAGE_GATEWAY")), getenv("LOVAGE_API_KEY"), getenv("LOVAGE_API_KEY_FILE")
	if a.Profile != "" || address == "" {
		c, err := readConfig()
		if err != nil {
			return nil, err
		}
		if name := cmp.Or(a.Profile, getenv("LOVAGE_PROFILE"), c.Default); name != "" {
			p, ok := c.Profiles[name]
			if !ok {
				return nil, unknownProfile(name, c)
			}
			address, key, keyFile = p.Gateway, p.APIKey, p.APIKeyFile
		}
	}
	address = cmp.Or(address, defaultGateway)
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, wrong("%q is no address of a gateway: give one like %s", address, defaultGateway)
	}
	if key, err = readKey(key, keyFile); err != nil {
		return nil, err
	}
	return &client.Client{BaseURL: address, Token: key}, nil
}

// readKey returns a key, or what is in its file. A key with a line break in it
// could not be sent.
func readKey(key, file string) (string, error) {
	if key == "" && file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", wrong("API key: %w", err)
		}
		key = string(text)
	}
	key = strings.TrimSpace(key)
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", wrong("the API key is none: it has characters that no key has")
	}
	return key, nil
}

func unknownProfile(name string, c config) error {
	path, err := configPath()
	if err != nil {
		return wrong("no profile %q: %w", name, err)
	}
	known := "it has none"
	if len(c.Profiles) > 0 {
		known = "it has " + strings.Join(slices.Sorted(maps.Keys(c.Profiles)), ", ")
	}
	return &usageError{fmt.Errorf("no profile %q in %s: %s", name, path, known)}
}
