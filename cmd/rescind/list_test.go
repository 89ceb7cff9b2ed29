package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rescind/revocation/control"
	"rescind/revocation/printable"
)

type page struct {
	Items      []control.Document
	NextCursor string `json:"next_cursor"`
}

func TestList(t *testing.T) {
	e := serve(t)
	e.rescind("list").want(0, "there is no revocation\n")
	var none page
	e.rescind("list", "-o", "json").want(0).json(&none)
	if none.Items == nil || len(none.Items) != 0 {
		t.Errorf("an empty list is %+v, want an empty array", none)
	}
	other := "https://other.example/"
	e.rescind("revoke", "--issuer", idp, "--sub", "alice", "--reason", strings.Repeat("long ", 50)).want(0)
	e.rescind("revoke", "--issuer", other, "--sub", "alice", "--block").want(0)
	restored := e.rescind("revoke", "--issuer", other, "--kid", "key 1", "-o", "json").want(0).document().ID
	e.rescind("restore", restored).want(0)
	for _, c := range []struct {
		args string
		want []string
	}{
		{"", []string{restored, "block", "in force", "sub=alice"}},
		{"--active", []string{"block", "sub=alice"}},
		{"--restored", []string{restored, `kid="key 1"`, "restored"}},
		{"--issuer " + idp, []string{idp, "long long"}},
		{"--issuer " + other, []string{other, "block"}},
		{"--claim sub:alice", []string{idp, other}},
		{"--claim sub:bob", []string{"no revocation fits --claim sub:bob"}},
		{"--limit 1", []string{restored, "there are more than these 1; --limit 0 shows all"}},
	} {
		e.rescind(append([]string{"list"}, strings.Fields(c.args)...)...).want(0, c.want...)
	}
	if got := e.rescind("list", "--restored").want(0); strings.Count(got.out, "\n") != 2 || !strings.HasPrefix(got.out, "STATE ") {
		t.Errorf("list --restored: got\n%s\nwant a heading and one line", got.out)
	}
	var one page
	e.rescind("list", "--limit", "1", "-o", "json").want(0).json(&one)
	if len(one.Items) != 1 || one.NextCursor == "" {
		t.Errorf("list --limit 1 prints %+v, want one item and a cursor", one)
	}
}

// A list is longer than a page of the API.
func TestListFollowsThePages(t *testing.T) {
	e := serve(t)
	var b strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&b, `{"issuer":%q,"claims":{"jti":"t%d"}}`+"\n", idp, i)
	}
	env := map[string]string{"RESCIND_CONTROL": e.url, "RESCIND_TOKEN": tokenOf("operator")}
	rescind(t, env, b.String(), "import", "-").want(0)
	for limit, want := range map[string]int{"0": 2500, "2499": 2499, "1000": 1000, "1001": 1001, "9000": 2500} {
		var p page
		e.rescind("list", "--limit", limit, "-o", "json").want(0).json(&p)
		seen := map[string]bool{}
		for _, d := range p.Items {
			seen[d.ID] = true
		}
		if len(p.Items) != want || len(seen) != want || (p.NextCursor == "") != (want == 2500) {
			t.Errorf("--limit %s: got %d items, %d of them distinct, and cursor %q, want %d, and a cursor unless these are all", limit, len(p.Items), len(seen), p.NextCursor, want)
		}
	}
	if got := e.rescind("list", "--limit", "0").want(0); strings.Count(got.out, "\n") != 2501 || strings.Count(got.out, "ISSUER") != 1 {
		t.Errorf("list --limit 0 prints %d lines with %d headings, want 2501 with one", strings.Count(got.out, "\n"), strings.Count(got.out, "ISSUER"))
	}
}

func TestReplicas(t *testing.T) {
	e := serve(t)
	e.rescind("replicas").want(0, "no replica follows")
	ack := time.Now().Add(-3 * time.Second)
	e.follows(control.Replica{Name: "replica-a", Connected: true, Revision: 17, Entries: 5, LastAck: &ack}, control.Replica{Name: "replica-\x1b", Revision: 15, Behind: 2})
	got := e.rescind("replicas").want(0, "NAME", "LAST ACK", "connected  replica-a       17        0       5        3s ago", "lost ", `"replica-\x1b"`, "never")
	if strings.ContainsRune(got.out, '\x1b') {
		t.Errorf("a replica's name with U+001B: got %q, want it escaped", got.out)
	}
	var list struct{ Items []control.Replica }
	e.rescind("replicas", "-o", "json").want(0).json(&list)
	if len(list.Items) != 2 || list.Items[1].Behind != 2 {
		t.Errorf("replicas -o json prints %+v, want two, the second one 2 behind", list)
	}
	if got := e.rescind("replicas", "replica-a").want(0); strings.Count(got.out, "\n") != 2 || !strings.Contains(got.out, "replica-a") {
		t.Errorf("replicas replica-a: got\n%swant a heading and one replica", got.out)
	}
	list.Items = nil
	e.rescind("replicas", "replica-a", "-o", "json").want(0).json(&list)
	if len(list.Items) != 1 || list.Items[0].Name != "replica-a" {
		t.Errorf("replicas replica-a -o json prints %+v, want one", list)
	}
	e.rescind("replicas", "replica-a", "nosuch").want(1, "no replica is named nosuch\nrescind replicas shows the names\n")
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "now", 500 * time.Millisecond: "now", 3 * time.Second: "in 3s", -90 * time.Second: "90s ago", 5 * time.Minute: "in 5m",
		-100 * time.Minute: "100m ago", 25 * time.Hour: "in 25h", 720 * time.Hour: "in 30d",
	} {
		if got := relative(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 12345678: "12,345,678"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) is %q, want %q", n, got, want)
		}
	}
	for s, want := range map[string]string{"plain text": "plain text", "zoë": "zoë", "a\nb": `"a\nb"`, "\u202egnp": `"\u202egnp"`, "\xff": `"\xff"`, "": ""} {
		if got := printable.Quote(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}
