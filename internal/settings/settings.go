// Package settings reads the settings of a program, which are the fields of a
// struct, from its flags and its environment. A library for this would be kong,
// which the tools use. It looks for methods by their names, and so the linker
// would leave every method of every type in the program: a third of it.
//
// The tags of a field are those that kong has: name (of the flag, the field's in
// lower case without it), env, default, help, enum (the values that are allowed),
// type:"path" for a file, which ~ may begin, secret for what is not shown, and cmd
// for a command.
package settings

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Setting is a field that can be set. It is a [flag.Value].
type Setting struct {
	// Name is that of the flag, without its dashes.
	Name string
	// Env is the variable, empty for none.
	Env string
	// Default is what the field holds otherwise, as text.
	Default string
	Help    string
	// Enum has the values that are allowed, none for any.
	Enum []string
	// Secret tells that the value is nobody's business.
	Secret bool

	path  bool
	value reflect.Value
}

// Of returns the settings of a program in their order. options points to a struct;
// the fields of structs that are embedded in it are settings too.
func Of(options any) []Setting {
	var found []Setting
	each(reflect.ValueOf(options).Elem(), func(f reflect.StructField, v reflect.Value) {
		if _, is := f.Tag.Lookup("cmd"); is {
			return
		}
		s := Setting{
			Name: nameOf(f), Env: f.Tag.Get("env"), Default: f.Tag.Get("default"),
			path: f.Tag.Get("type") == "path", value: v,
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			s.Enum = strings.Split(enum, ",")
		}
		s.Help = strings.ReplaceAll(f.Tag.Get("help"), "${enum}", strings.Join(s.Enum, ", "))
		_, s.Secret = f.Tag.Lookup("secret")
		found = append(found, s)
	})
	return found
}

func nameOf(f reflect.StructField) string {
	return cmp.Or(f.Tag.Get("name"), strings.ToLower(f.Name))
}

func each(v reflect.Value, see func(reflect.StructField, reflect.Value)) {
	for f, v := range v.Fields() {
		switch {
		case f.Anonymous:
			each(v, see)
		case f.IsExported():
			see(f, v)
		}
	}
}

// Parse sets the options of a program to their defaults, then to what lookup
// finds in the environment (as [os.LookupEnv] does), then to what the arguments
// say, and returns the command that these name, or the one with a default. Each
// variable that cannot be read is in the error and stays at its default; so is
// what the options' Validate says, where they have one. Asked for help it returns
// [flag.ErrHelp] alone.
func Parse(options any, args []string, lookup func(name string) (string, bool)) (command string, err error) {
	var errs []error
	all := Of(options)
	for _, s := range all {
		if s.Default != "" {
			if err := s.Set(s.Default); err != nil {
				errs = append(errs, fmt.Errorf("default of --%s: %w", s.Name, err))
			}
		}
		if text, set := lookup(s.Env); set && s.Env != "" {
			if err := s.Set(text); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", s.Env, err))
			}
		}
	}
	command, err = arguments(commands(options), all, args)
	if errors.Is(err, flag.ErrHelp) {
		return "", flag.ErrHelp
	}
	errs = append(errs, err)
	if o, can := options.(interface{ Validate() error }); can && err == nil {
		errs = append(errs, o.Validate())
	}
	return command, errors.Join(errs...)
}

// Help writes what a program can be told.
func Help(w io.Writer, name, description string, options any) error {
	var text strings.Builder
	fmt.Fprintf(&text, "Usage: %s [command] [flags]\n\n%s\n", name, description)
	if list := commands(options); len(list) > 0 {
		text.WriteString("\nCommands:\n")
		for _, c := range list {
			fmt.Fprintf(&text, "  %s\n        %s\n", c.Name, c.Help)
		}
	}
	text.WriteString("\nFlags, and variables of the environment:\n")
	for _, s := range Of(options) {
		fmt.Fprintf(&text, "  --%s", s.Name)
		if s.Default != "" {
			fmt.Fprintf(&text, "=%s", s.Default)
		} else if !s.IsBoolFlag() {
			text.WriteString("=…")
		}
		if s.Env != "" {
			fmt.Fprintf(&text, ", %s", s.Env)
		}
		fmt.Fprintf(&text, "\n        %s\n", s.Help)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// commands are fields with the tag cmd.
func commands(options any) []Setting {
	var found []Setting
	each(reflect.ValueOf(options).Elem(), func(f reflect.StructField, _ reflect.Value) {
		if _, is := f.Tag.Lookup("cmd"); is {
			found = append(found, Setting{Name: nameOf(f), Default: f.Tag.Get("default"), Help: f.Tag.Get("help")})
		}
	})
	return found
}

// arguments reads flags and one command in any order.
func arguments(commands, all []Setting, args []string) (command string, err error) {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it
	for _, s := range all {
		flags.Var(&given{Setting: s}, s.Name, "")
	}
	for {
		if err := flags.Parse(args); err != nil {
			return "", fmt.Errorf("%w (see --help)", err)
		}
		if flags.NArg() == 0 {
			break
		}
		word := flags.Arg(0)
		if command != "" || !slices.ContainsFunc(commands, func(c Setting) bool { return c.Name == word }) {
			return "", fmt.Errorf("unexpected argument %q (see --help)", word)
		}
		command, args = word, flags.Args()[1:]
	}
	for _, c := range commands {
		if command == "" && c.Default != "" {
			command = c.Name
		}
	}
	return command, nil
}

// given is a setting by its flag. A list goes on where the flag is repeated.
type given struct {
	Setting
	before string
}

// Set implements [flag.Value].
func (g *given) Set(text string) error {
	if kind := g.value.Kind(); kind == reflect.Slice || kind == reflect.Map {
		if g.before != "" {
			text = g.before + "," + text
		}
		g.before = text
	}
	return g.Setting.Set(text)
}

// Set reads the text into the field, which stays as it is when that is an error.
func (s Setting) Set(text string) error {
	if s.Enum != nil && !slices.Contains(s.Enum, text) {
		return fmt.Errorf("must be one of %s, is %q", strings.Join(s.Enum, ", "), text)
	}
	if s.path && text != "" {
		text = absolute(text)
	}
	v := reflect.New(s.value.Type()).Elem()
	if err := read(v, text); err != nil {
		return err
	}
	s.value.Set(v)
	return nil
}

func absolute(path string) string {
	if rest, is := strings.CutPrefix(path, "~/"); is {
		if home, err := os.UserHomeDir(); err == nil {
			path = filepath.Join(home, rest)
		}
	}
	if full, err := filepath.Abs(path); err == nil {
		path = full
	}
	return path
}

// read sets a value of one of the types that settings have.
func read(v reflect.Value, text string) error {
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("must be a duration such as 1m30s, is %q", text)
		}
		v.SetInt(int64(d))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := readBool(text)
		v.SetBool(b)
		return err
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("must be a whole number, is %q", text)
		}
		v.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("must be a number, is %q", text)
		}
		v.SetFloat(n)
	case reflect.Slice:
		return readList(text, func(part string) error {
			element := reflect.New(v.Type().Elem()).Elem()
			err := read(element, part)
			v.Set(reflect.Append(v, element))
			return err
		})
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		return readList(text, func(part string) error {
			name, value, found := strings.Cut(part, "=")
			if !found {
				return fmt.Errorf("must be name=value, several separated by commas, is %q", text)
			}
			element := reflect.New(v.Type().Elem()).Elem()
			if err := read(element, value); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			v.SetMapIndex(reflect.ValueOf(name), element)
			return nil
		})
	default:
		return fmt.Errorf("has a type that is not read: %s", v.Type())
	}
	return nil
}

func readBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "yes", "1":
		return true, nil
	case "false", "no", "0":
		return false, nil
	}
	return false, fmt.Errorf("must be true or false, is %q", text)
}

func readList(text string, each func(part string) error) error {
	if text == "" {
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		if err := each(part); err != nil {
			return err
		}
	}
	return nil
}

// String returns the value as the variable would hold it, also that of a secret.
func (s Setting) String() string {
	var parts []string
	switch s.value.Kind() {
	case reflect.Slice:
		for i := range s.value.Len() {
			parts = append(parts, fmt.Sprint(s.value.Index(i)))
		}
	case reflect.Map:
		for key, value := range s.value.Seq2() {
			parts = append(parts, fmt.Sprintf("%v=%v", key, value))
		}
		slices.Sort(parts)
	default:
		return fmt.Sprint(s.value)
	}
	return strings.Join(parts, ",")
}

// IsZero tells whether the value is the zero value of its type.
func (s Setting) IsZero() bool { return s.value.IsZero() }

// IsBoolFlag tells whether the flag can do without a value.
func (s Setting) IsBoolFlag() bool { return s.value.Kind() == reflect.Bool }
