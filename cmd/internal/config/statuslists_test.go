package config

import (
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestStatusListsFaults(t *testing.T) { testFaults(t, "authz", statusListsFaults) }

var statusListsFaults = []faulty{
	statusFault("§{}", "uris: is missing: the places of the issuer's status lists, such as [https://idp.example.com/statuslists/]"),
	statusFault("§[a]", "is a list; write a mapping (key: value)"),
	statusFault("{uris: §[]}", "uris: is empty; name at least one"),
	statusFault("{uris: §https://a/b}", `uris: "https://a/b" is not a list ([one, two])`),
	statusFault("{uris: ['https://a/b', §'https://a/b']}", "uris[1]: duplicate value, first used on line 1"),
	statusFault("{uris: [§'lists/1', §'https://a', §'https://u@a/b', §'https://a/x/../b/', §'https://a/%2e%2E/b', §'https://a/b?c=/', §'ftp://a/b', §'https://a/b#c', §'http://a/b/', §'https://a/é']}",
		`uris[0]: "lists/1" is not a URL with a host; write it as https://idp.example.com/`,
		`uris[1]: "https://a" has no path; end it with / to allow every list of this host`,
		"uris[2]: has a user name or a password in it; remove them, because URLs appear in logs",
		`uris[3]: "https://a/x/../b/" has a . or .. in its path, a backslash, a user or a fragment; remove it`,
		`uris[4]: "https://a/%2e%2E/b" has a . or .. in its path, a backslash, a user or a fragment; remove it`,
		`uris[5]: "https://a/b?c=/" ends in / within its query, which names no folder; end its path with /`,
		`uris[6]: "ftp://a/b" is not a URL with a host; write it as https://idp.example.com/`,
		"uris[7]: has a fragment (#); remove it",
		"uris[8]: a list fetched over http can be held back on the way; use https, or allow_http: true",
		`uris[9]: "https://a/é" is not the URI of a status list; write it as https://idp.example.com/statuslists/1, or with / at its end for all lists below it`),
	statusFault("{uris: ['https://a/'], jwks_uri: §'http://a/jwks', on_unavailable: §maybe, max_lists: §0, max_inflated: §1e3, max_response: §-1, §max: 1}",
		"jwks_uri: keys fetched over http can be replaced on the way; use https, or allow_http: true",
		`on_unavailable: "maybe" is not one of allow, deny`,
		"max_lists: \"0\" is not a whole number from 1 to 4096",
		"max_inflated: \"1e3\" is not a whole number from 1 to 67108864",
		"max_response: \"-1\" is not a whole number from 1 to 134217728",
		"max: there is no such key; the keys here are jwks_uri, max_age, max_inflated, max_lists, max_refresh_interval, max_response, min_refresh_interval, on_unavailable, uris"),
	statusFault("{uris: ['https://a/'], min_refresh_interval: §10ms, max_refresh_interval: §5s, max_age: §0s}",
		"min_refresh_interval: 10ms is too short; the least is 1s",
		"max_refresh_interval: max_refresh_interval (5s) is shorter than min_refresh_interval (10s)",
		"max_age: 0s is too short; the least is 1s"),
	statusFault("{uris: ['https://a/'], min_refresh_interval: §6m}", "min_refresh_interval: max_refresh_interval (5m0s) is shorter than min_refresh_interval (6m0s)"),
	statusFault("{uris: ['https://a/'], max_age: §1m}", "max_age: max_age (1m0s) is shorter than max_refresh_interval (5m0s), so a good list would lapse between two fetches"),
	statusFault("{uris: ['https://a/1', 'https://a/2', 'https://a/'], max_lists: §1}", "max_lists: max_lists (1) is less than the 2 lists in uris; raise it"),
}

func statusFault(text string, want ...string) faulty {
	f := faulty{text: "issuers: [{issuer: 'https://i/', discovery: true, audiences: [a], status_lists: " + text + "}]\n"}
	for _, w := range want {
		if text == "§[a]" {
			w = ": " + w
		} else {
			w = "." + w
		}
		f.want = append(f.want, "issuers[0].status_lists"+w)
	}
	return f
}

func TestStatusLists(t *testing.T) {
	path := filepath.Join(folderOf(t), "x.yaml")
	read := func(issuer string) *StatusLists {
		t.Helper()
		return mustAuthz(t, path, "issuers: [{issuer: 'https://i/', discovery: true, audiences: [a], "+issuer+"}]\n"+baseRevocation).Issuers[0].StatusLists
	}
	if got := read("leeway: 1s"); got != nil {
		t.Errorf("without the key: got %+v, want none", got)
	}
	want := &StatusLists{
		URIs: []string{"https://i/lists/"}, MaxLists: 64, MaxInflated: 1 << 20, MaxResponse: 2 << 20,
		MinRefreshInterval: 10 * time.Second, MaxRefreshInterval: 5 * time.Minute, MaxAge: 24 * time.Hour,
	}
	if got := read("status_lists: {uris: ['https://i/lists/'], on_unavailable: , jwks_uri: }"); !reflect.DeepEqual(got, want) {
		t.Errorf("defaults: got %+v, want %+v", got, want)
	}
	read("status_lists: {uris: ['http://127.0.0.1:1/l'], jwks_uri: 'http://localhost:2/jwks'}")
	read("allow_http: true, status_lists: {uris: ['http://a/l'], jwks_uri: 'http://a/jwks', on_unavailable: allow}")
}
