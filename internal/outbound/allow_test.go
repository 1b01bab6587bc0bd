package outbound

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAllowListMatches(t *testing.T) {
	t.Parallel()
	tests := []struct {
		entry, host, port string
		allowed, private  bool
	}{
		{"example.com", "example.com", "80", true, false},
		{"example.com", "EXAMPLE.com.", "443", true, false},
		{"Example.COM.", "example.com", "443", true, false},
		{"example.com", "www.example.com", "80", false, false},
		{"example.com", "example.com.evil.org", "80", false, false},
		{"example.com", "notexample.com", "80", false, false},
		{"example.com:8080", "example.com", "8080", true, false},
		{"example.com:8080", "example.com", "80", false, false},
		{"*.example.com", "a.example.com", "80", true, false},
		{"*.example.com", "a.b.example.com", "80", true, false},
		{"*.example.com", "example.com", "80", false, false},
		{"*.example.com", "evilexample.com", "80", false, false},
		{"*.example.com:443", "a.example.com", "80", false, false},
		{"private:api", "api", "80", true, true},
		{"private:*.corp:8443", "a.corp", "8443", true, true},
		{"localhost:9000", "localhost", "9000", true, true},
		{"localhost:9000", "localhost", "9001", false, false},
		{"*.localhost", "a.localhost", "80", true, false},
		{"my_service", "my_service", "80", true, false},
		{"bücher.example", "xn--bcher-kva.example", "80", true, false},
		{"xn--bcher-kva.example", "Bücher.example", "80", true, false},
		{"127.0.0.1", "127.0.0.1", "80", true, false},
		{"127.0.0.1:9000", "127.0.0.1", "9000", true, false},
		{"127.0.0.1:9000", "127.0.0.1", "9001", false, false},
		{"127.0.0.1", "::ffff:127.0.0.1", "80", true, false},
		{"127.0.0.1", "127.0.0.2", "80", false, false},
		{"::1", "::1", "80", true, false},
		{"[::1]:9000", "::1", "9000", true, false},
		{"::ffff:10.0.0.1", "10.0.0.1", "80", true, false},
		{"10.0.0.0/8", "10.20.30.40", "80", true, false},
		{"10.9.8.7/8", "10.20.30.40", "80", true, false},
		{"10.0.0.0/8", "11.0.0.1", "80", false, false},
		{"10.0.0.0/8", "name-that-leads-there", "80", false, false},
		{"fd00::/8", "fd12::1", "80", true, false},
		{"127.0.0.1", "2130706433", "80", false, false},
		{"127.0.0.1", "127.1", "80", false, false},
		{"::1", "::1%lo", "80", false, false},
		{"fe80::/10", "fe80::1%lo", "80", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.entry+" "+tt.host+":"+tt.port, func(t *testing.T) {
			t.Parallel()
			list, err := ParseAllowList("LOVAGE_HTTP_ALLOW", []string{" " + tt.entry + " ", ""})
			require.NoError(t, err)
			require.Len(t, list.entries, 1)
			private, err := list.check(tt.host, tt.port)
			require.Equal(t, tt.allowed, err == nil, "%v", err)
			require.Equal(t, tt.private, private)
		})
	}
}

func TestAllowListRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"http://example.com", "example.com/path", "10.0.0.0/33", "::ffff:10.0.0.0/100", "*", "*.", "*.*.com", "a b", "a..b", ".com",
		"example.com:", "example.com:0", "example.com:70000", "example.com:http", "fe80::1%lo", "private:", "private:private:a", "a:b:c",
	} {
		_, err := ParseAllowList("LOVAGE_HTTP_ALLOW", []string{"good.example", entry})
		require.ErrorContains(t, err, "LOVAGE_HTTP_ALLOW", entry)
	}
	_, err := ParseAllowList("LOVAGE_HTTP_ALLOW", []string{"a b", "c d"})
	require.ErrorContains(t, err, `"a b"`)
	require.ErrorContains(t, err, `"c d"`, "all at once")
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	list, err := ParseAllowList("LOVAGE_HTTP_ALLOW", []string{"example.com"})
	require.NoError(t, err)
	tests := map[string]string{
		"https://example.com/a?b=c":     "",
		"http://example.com:8080":       "",
		"ftp://example.com":             "scheme must be http or https",
		"file:///etc/passwd":            "scheme must be http or https",
		"//example.com":                 "scheme must be http or https",
		"https://user:pw@example.com":   "must not contain a user name",
		"https://example.com@evil.org/": "must not contain a user name",
		"https://evil.org":              "host evil.org port 443 is not on the list of allowed hosts, LOVAGE_HTTP_ALLOW",
		"http:///path":                  "names no host",
		"http:example.com":              "names no host",
	}
	for text, want := range tests {
		u, err := url.Parse(text)
		require.NoError(t, err)
		err = list.checkURL(u)
		if want == "" {
			require.NoError(t, err, text)
			continue
		}
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "pw")
	}
}

func TestEmptyAllowListRefusesEverything(t *testing.T) {
	t.Parallel()
	list, err := ParseAllowList("LOVAGE_HTTP_ALLOW", nil)
	require.NoError(t, err)
	_, err = list.check("example.com", "80")
	require.EqualError(t, err, "no host may be called: name the allowed ones in LOVAGE_HTTP_ALLOW")
}

func TestOnlyAddressesOfTheOpenInternetArePublic(t *testing.T) {
	t.Parallel()
	for _, ip := range []string{"8.8.8.8", "93.184.216.34", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::1"} {
		require.True(t, public(netip.MustParseAddr(ip)), ip)
	}
	for _, ip := range []string{
		"127.0.0.1", "127.255.0.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "100.100.100.200",
		"0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "168.63.129.16",
		"::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "ff05::1", "2001:db8::1", "2001::1", "3fff::1", "100::1",
		"::ffff:127.0.0.1", "::ffff:8.8.8.8", "::7f00:1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "2002:7f00:1::1", "2002:808:808::1",
	} {
		require.False(t, public(netip.MustParseAddr(ip)), ip)
	}
	require.False(t, public(netip.Addr{}))
}

func TestAddressIsCheckedWhenItConnects(t *testing.T) {
	t.Parallel()
	list, err := ParseAllowList("LOVAGE_HTTP_ALLOW", []string{"a.example", "10.1.0.0/16", "127.0.0.1:9000"})
	require.NoError(t, err)
	g := &guard{allow: list}
	require.NoError(t, g.checkAddress("a.example", "8.8.8.8:80", false))
	require.NoError(t, g.checkAddress("a.example", "10.1.2.3:80", false), "inside of an allowed CIDR")
	require.NoError(t, g.checkAddress("a.example", "[::ffff:10.1.2.3]:80", false))
	require.NoError(t, g.checkAddress("a.example", "127.0.0.1:9000", false), "an allowed address")
	require.NoError(t, g.checkAddress("a.example", "192.168.0.1:80", true), "marked private")
	for _, resolved := range []string{"10.2.0.1:80", "127.0.0.1:9001", "[::1]:80", "169.254.169.254:80", "[::ffff:169.254.169.254]:80", "nonsense"} {
		err := g.checkAddress("a.example", resolved, false)
		var refused *Refusal
		require.ErrorAs(t, err, &refused, resolved)
		require.ErrorContains(t, err, "a.example")
		require.NotContains(t, err.Error(), "10.2.0.1")
	}
}

func FuzzCheckURL(f *testing.F) {
	list, err := ParseAllowList("ALLOW", []string{"api.test", "*.sub.test:8443", "192.0.2.7"})
	require.NoError(f, err)
	for _, seed := range []string{"http://api.test/", "https://x.sub.test:8443", "http://[::ffff:192.0.2.7]/", "http://api.test@127.0.0.1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := list.ParseURL(text)
		if err != nil {
			return
		}
		require.Contains(t, []string{"http", "https"}, u.Scheme)
		require.Nil(t, u.User)
		host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
		if ip := net.ParseIP(host); ip != nil {
			require.Equal(t, "192.0.2.7", ip.String(), text)
			return
		}
		name, ok := hostName(host)
		require.True(t, ok, text)
		require.True(t, name == "api.test" || strings.HasSuffix(name, ".sub.test"), text)
	})
}
