// Package outbound makes HTTP calls to what callers name: only to hosts that an
// operator has allowed, and to no private address that a name may lead to.
package outbound

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Refusal is why something is not called, or its answer not taken. No retry
// mends it.
type Refusal struct{ why string }

// Error says what is refused, and which setting would allow it.
func (r *Refusal) Error() string { return r.why }

// Refuse makes a [*Refusal].
func Refuse(format string, args ...any) error { return &Refusal{why: fmt.Sprintf(format, args...)} }

// AllowList are the hosts that may be called. Its zero value allows none.
type AllowList struct {
	setting string
	entries []allowed
}

// allowed is one entry: either a prefix or a name.
type allowed struct {
	prefix netip.Prefix
	name   string // lower case, without the "*." of a wildcard
	below  bool   // every name below name, not name itself
	port   string // empty for every port
	// private permits that the name leads to private addresses.
	private bool
}

// ParseAllowList reads the entries of a setting; its error joins all complaints,
// each with the name of the setting. An entry is a host name, "*.example.com" for
// every name below it, an IP address or a CIDR; all but the last can end in a
// port, and stand for every port without one. "private:" in front of a name, and
// the name "localhost", permit that it leads to private addresses.
func ParseAllowList(setting string, entries []string) (AllowList, error) {
	list := AllowList{setting: setting}
	var errs []error
	for _, text := range entries {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		entry, err := parseAllowed(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %q: %w", setting, text, err))
			continue
		}
		list.entries = append(list.entries, entry)
	}
	return list, errors.Join(errs...)
}

func parseAllowed(text string) (allowed, error) {
	text, private := strings.CutPrefix(text, "private:")
	if strings.Contains(text, "://") {
		return allowed{}, errors.New("is a URL: name the host only")
	}
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix.Addr().Is4In6() {
			return allowed{}, errors.New("is neither a host nor a CIDR")
		}
		return allowed{prefix: prefix.Masked()}, nil
	}
	host, port, err := splitPort(text)
	if err != nil {
		return allowed{}, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip = ip.Unmap(); ip.Zone() != "" {
			return allowed{}, errors.New("an address with a zone cannot be allowed")
		}
		return allowed{prefix: netip.PrefixFrom(ip, ip.BitLen()), port: port}, nil
	}
	host, below := strings.CutPrefix(host, "*.")
	name, ok := hostName(host)
	if !ok {
		return allowed{}, errors.New("is not a host name")
	}
	// Whoever allows localhost means this machine, and nobody else answers
	// for that name.
	private = private || (name == "localhost" && !below)
	return allowed{name: name, below: below, port: port, private: private}, nil
}

// splitPort splits "host", "host:port", "::1" and "[::1]:port".
func splitPort(text string) (host, port string, err error) {
	if _, err := netip.ParseAddr(text); err == nil {
		return text, "", nil
	}
	u := url.URL{Host: text}
	host, port = u.Hostname(), u.Port()
	if port == "" {
		if strings.HasSuffix(text, ":") {
			return "", "", errors.New("the port is empty")
		}
		return host, "", nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", errors.New("the port must be from 1 to 65535")
	}
	return host, port, nil
}

// hostName puts a name into the form in which names are compared. A name in
// ASCII is taken as it is, as net/http does: Docker's have underscores.
func hostName(host string) (string, bool) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || len(host) > 253 || strings.Contains(host, "..") || strings.HasPrefix(host, ".") {
		return "", false
	}
	if strings.IndexFunc(host, notASCII) >= 0 {
		ascii, err := idna.Lookup.ToASCII(host)
		return ascii, err == nil
	}
	return host, strings.IndexFunc(host, notHostRune) < 0
}

func notASCII(r rune) bool { return r > 127 }

func notHostRune(r rune) bool {
	return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '.')
}

// Empty reports whether no host may be called.
func (l AllowList) Empty() bool { return len(l.entries) == 0 }

// ParseURL reads a URL and refuses one that must not be called. What the parser
// complains of is left out, because it quotes the URL.
func (l AllowList) ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("url: is not a URL")
	}
	u.Fragment, u.RawFragment = "", ""
	return u, l.checkURL(u)
}

// checkURL refuses a URL that must not be called, before anything is sent or
// looked up.
func (l AllowList) checkURL(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" {
		return Refuse("url: the scheme must be http or https")
	}
	if u.User != nil {
		return Refuse("url: must not contain a user name or password; use the header Authorization")
	}
	if u.Hostname() == "" {
		return Refuse("url: names no host")
	}
	_, err := l.check(u.Hostname(), portOf(u))
	return err
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// check refuses a host that is not on the list. It reports whether the host may
// lead to private addresses.
func (l AllowList) check(host, port string) (private bool, err error) {
	if l.Empty() {
		return false, Refuse("no host may be called: name the allowed ones in %s", l.setting)
	}
	found := false
	for _, entry := range l.entries {
		if entry.matches(host, port) {
			found = true
			private = private || entry.private
		}
	}
	if !found {
		return false, Refuse("host %s port %s is not on the list of allowed hosts, %s", host, port, l.setting)
	}
	return private, nil
}

func (e allowed) matches(host, port string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return e.covers(ip, port)
	}
	name, ok := hostName(host)
	switch {
	case !ok || e.name == "" || !e.reaches(port):
		return false
	case e.below:
		return strings.HasSuffix(name, "."+e.name)
	default:
		return name == e.name
	}
}

// covers reports whether the entry names this address itself.
func (e allowed) covers(ip netip.Addr, port string) bool {
	return e.prefix.IsValid() && e.prefix.Contains(ip.Unmap()) && e.reaches(port)
}

func (e allowed) reaches(port string) bool { return e.port == "" || e.port == port }
