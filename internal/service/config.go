package service

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/lovage-mq/lovage/internal/settings"
)

// hidden is shown in place of a secret.
const hidden = "***"

// Parse reads the command line and the environment into the options of a
// program, and returns the command. Everything that is wrong is in the error: each
// variable that cannot be read, and what the options' Validate says of the others.
// Asked for help it shows it, and returns [flag.ErrHelp].
func Parse(options any, name, description string, args []string) (command string, err error) {
	command, err = settings.Parse(options, args, os.LookupEnv)
	if errors.Is(err, flag.ErrHelp) {
		return "", errors.Join(err, settings.Help(os.Stdout, name, description, options))
	}
	return command, err
}

// PrintConfig writes the settings that the options of a program hold, one
// NAME=value a line, with every secret hidden: what has the tag secret, and the
// passwords in addresses.
func PrintConfig(w io.Writer, options any) error {
	for _, s := range settings.Of(options) {
		if s.Env == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s=%s\n", s.Env, shown(s)); err != nil {
			return err
		}
	}
	return nil
}

// shown is the value of a setting as its variable would hold it.
func shown(s settings.Setting) string {
	if s.Secret && !s.IsZero() {
		return hidden
	}
	return withoutSecrets(s.String())
}

// withoutSecrets hides the passwords in a list of addresses: those before the
// host, up to the last @ that an address has, and those among its parameters.
func withoutSecrets(value string) string {
	if !strings.Contains(value, "://") {
		return value
	}
	userinfo := regexp.MustCompile(`://([^:/@]*):.*@`)
	parameter := regexp.MustCompile(`(?i)([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]*`)
	var addresses []string
	for piece := range strings.SplitSeq(value, ",") {
		if last := len(addresses) - 1; last >= 0 && !strings.Contains(piece, "://") {
			addresses[last] += "," + piece // a further host, or a comma in a password
			continue
		}
		addresses = append(addresses, piece)
	}
	for i, address := range addresses {
		addresses[i] = parameter.ReplaceAllString(userinfo.ReplaceAllString(address, "://$1:"+hidden+"@"), "${1}"+hidden)
	}
	return strings.Join(addresses, ",")
}
