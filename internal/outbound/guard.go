package outbound

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const dialTimeout = 10 * time.Second

// guard dials. A name on the list of allowed hosts belongs to
// whoever answers for it in the DNS, so the address counts as well, and it is
// looked at when the socket connects: what was looked up earlier may have
// changed since.
type guard struct {
	allow    AllowList
	resolver *net.Resolver
}

func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	private, err := g.allow.check(host, port)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{
		Timeout:  dialTimeout,
		Resolver: g.resolver,
		ControlContext: func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			return g.checkAddress(host, resolved, private)
		},
	}
	return dialer.DialContext(ctx, network, address)
}

// checkAddress refuses to connect to an address that host must not lead to. The
// complaint does not name it: what a private name server says is not for
// everybody who may submit a task.
func (g *guard) checkAddress(host, resolved string, private bool) error {
	target, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return Refuse("host %s leads to something that is no address", host)
	}
	ip := target.Addr().Unmap()
	if private || public(ip) {
		return nil
	}
	port := strconv.Itoa(int(target.Port()))
	if slices.ContainsFunc(g.allow.entries, func(e allowed) bool { return e.covers(ip, port) }) {
		return nil
	}
	return Refuse("host %s leads to a private or reserved address; if that is meant, allow it as private:%s in %s", host, host, g.allow.setting)
}

// public reports whether an address is one of the open internet.
func public(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Zone() != "" || ip.Is4In6() || !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	return !slices.ContainsFunc(reserved(), func(p netip.Prefix) bool { return p.Contains(ip) })
}

// reserved are the ranges that [netip.Addr] does not know as special: IANA's
// special-purpose registries, the ways to wrap an IPv4 address into an IPv6
// one, and the address of Azure's host, which is a public one.
func reserved() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),
		netip.MustParsePrefix("100.64.0.0/10"), // carrier-grade NAT
		netip.MustParsePrefix("168.63.129.16/32"),
		netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("192.0.2.0/24"),
		netip.MustParsePrefix("192.88.99.0/24"), // 6to4 relays
		netip.MustParsePrefix("198.18.0.0/15"),
		netip.MustParsePrefix("198.51.100.0/24"),
		netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("::/96"),          // IPv4-compatible
		netip.MustParsePrefix("64:ff9b::/96"),   // NAT64
		netip.MustParsePrefix("64:ff9b:1::/48"), // NAT64, local
		netip.MustParsePrefix("100::/64"),       // discard
		netip.MustParsePrefix("2001::/23"),      // Teredo and other protocols
		netip.MustParsePrefix("2001:db8::/32"),
		netip.MustParsePrefix("2002::/16"), // 6to4
		netip.MustParsePrefix("3fff::/20"), // documentation
		netip.MustParsePrefix("5f00::/16"), // segment routing
		netip.MustParsePrefix("fec0::/10"), // site-local
	}
}
