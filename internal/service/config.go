package service

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// hidden is shown in place of a secret.
const hidden = "***"

// Parse reads the command line and the environment into the options of a
// program, and returns the command. Everything that is wrong is in the error: each
// variable that cannot be read, and what the options' Validate says of the others.
// It ends the program where that is asked for help.
func Parse(options any, name, description string, args []string) (command string, err error) {
	parser, err := kong.New(options, kong.Name(name), kong.Description(description))
	if err != nil {
		return "", err
	}
	unread := unreadable(parser.Model)
	parsed, err := parser.Parse(args)
	if err := errors.Join(unread, err); err != nil {
		return "", err
	}
	return parsed.Command(), nil
}

// unreadable says which variables of the environment do not fit their setting, and
// leaves those settings at their default.
func unreadable(model *kong.Application) error {
	var errs []error
	for _, flag := range model.Flags {
		for _, name := range flag.Envs {
			text, set := os.LookupEnv(name)
			if !set {
				continue
			}
			if err := fits(flag, text); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
				flag.Tag.Envs = nil
			}
		}
	}
	return errors.Join(errs...)
}

func fits(flag *kong.Flag, text string) error {
	token := kong.Token{Type: kong.FlagValueToken, Value: text}
	value := reflect.New(flag.Target.Type()).Elem()
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: kong.ScanFromTokens(token)}, value); err != nil {
		return err
	}
	if flag.Enum != "" && !slices.Contains(flag.EnumSlice(), text) {
		return fmt.Errorf("must be one of %s, is %q", strings.Join(flag.EnumSlice(), ", "), text)
	}
	return nil
}

// PrintConfig writes the settings that the options of a program hold, one
// NAME=value a line, with every secret hidden: what has the tag secret, and the
// passwords in addresses.
func PrintConfig(w io.Writer, options any) error {
	parser, err := kong.New(options)
	if err != nil {
		return err
	}
	for _, flag := range parser.Model.Flags {
		if len(flag.Envs) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s=%s\n", flag.Envs[0], shown(flag)); err != nil {
			return err
		}
	}
	return nil
}

// shown is the value of a setting as its variable would hold it.
func shown(flag *kong.Flag) string {
	if flag.Tag.Has("secret") && !flag.Target.IsZero() {
		return hidden
	}
	return withoutSecrets(text(flag.Target))
}

func text(v reflect.Value) string {
	var parts []string
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			parts = append(parts, fmt.Sprint(v.Index(i)))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			parts = append(parts, fmt.Sprintf("%v=%v", key, v.MapIndex(key)))
		}
		slices.Sort(parts)
	default:
		return fmt.Sprint(v)
	}
	return strings.Join(parts, ",")
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
