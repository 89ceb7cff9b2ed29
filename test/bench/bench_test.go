package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain runs a helper of the benchmark if the environment names one.
func TestMain(m *testing.M) {
	switch ran, err := helper(context.Background()); {
	case !ran:
		os.Exit(m.Run())
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Some requests go to each server, with each kind of traffic. Every table has a row for
// each.
func TestEveryRow(t *testing.T) {
	if raceEnabled {
		t.Skip("this test starts the shipped binary, so it runs without the race detector: go test ./test/bench")
	}
	o, err := parse([]string{"-entries", "0", "-algorithms", "ES256", "-rounds", "1", "-turn", "10ms", "-unseen", "20", "-checks", "300", "-steady", "100ms", "-envoy", "-known", "-denials", "5"})
	if err != nil {
		t.Fatal(err)
	}
	b := bench{options: o, dir: t.TempDir()}
	defer b.stop()
	b.binary = filepath.Join(b.dir, "rescind")
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return build(ctx, b.binary, false) },
		func(context.Context) (err error) {
			b.issuer, err = newIssuer(o.algorithms, filepath.Join(b.dir, "jwks.json"))
			return err
		},
		b.servers, b.steadily, b.memory, b.throughGateway, b.inProcess, b.firstDenials,
	} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for _, table := range b.tables {
		names = append(names, table.name)
		for line := range strings.Lines(table.text) {
			if strings.Contains(line, "NaN") || strings.Contains(line, "Inf") {
				t.Errorf("table %s: got %q, want numbers", table.name, line)
			}
		}
	}
	if want := []string{"checks", "steady", "memory", "envoy", "known", "denials"}; !slices.Equal(names, want) {
		t.Fatalf("tables: got %q, want %q", names, want)
	}
	servers := []string{"no-op", "golang-jwt", "rescind, no revocations"}
	for _, kind := range kinds {
		for _, s := range servers {
			wantRow(t, b.tables[0], "| ES256 | "+kind+" | "+s+" |")
		}
	}
	for _, r := range append(servers, noOpHeaders, noOpAnswer, "jwt_authn of Envoy", "jwt_authn of Envoy with its cache", "no authorization") {
		for _, kind := range o.gatewayKinds {
			wantRow(t, b.tables[3], "| "+kind+" | "+r+" |")
		}
		wantRow(t, b.tables[3], "| "+r+" |")
	}
	for _, r := range []string{direct, knownAll, knownNoAudit, knownNoLog, missed, idle, byExtAuthz, noOp, jwtAuthn, jwtCached} {
		wantRow(t, b.tables[4], "| "+r+" |")
	}
	for _, g := range knownGoals {
		wantRow(t, b.tables[4], "| "+g.text+" |")
	}
	wantRow(t, b.tables[5], "| 5 |")
}

func wantRow(t *testing.T, table namedTable, begin string) {
	t.Helper()
	if !strings.Contains(table.text, "\n"+begin) {
		t.Errorf("table %s: want a row that begins with %q, got\n%s", table.name, begin, table.text)
	}
}

// A table replaces the text between its marks, and nothing else. A document without
// them is a fault.
func TestTablesReplaceTheirPlaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "figures.md")
	const document = "# Figures\n<!-- bench: a -->\nold\n<!-- bench: end of a -->\nbetween\n<!-- bench: b -->\n<!-- bench: end of b -->\nend\n"
	for _, test := range []struct {
		tables   tables
		document string // "": a fault
	}{
		{tables{{"a", "new\n"}}, strings.Replace(document, "old\n", "\nnew\n\n", 1)},
		{tables{{"b", "1\n"}}, strings.Replace(document, "<!-- bench: b -->\n", "<!-- bench: b -->\n\n1\n\n", 1)},
		{tables{{"c", "1\n"}}, ""},
	} {
		if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		err := test.tables.write(path)
		got, _ := os.ReadFile(path)
		if want := test.document; want == "" && (err == nil || string(got) != document) || want != "" && (err != nil || string(got) != want) {
			t.Errorf("%v: got %v and\n%s\nwant\n%s", test.tables, err, got, want)
		}
	}
	text, err := os.ReadFile("../FIGURES.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"checks", "steady", "memory", "profile", "envoy", "known", "denials"} {
		if _, err := (namedTable{name, ""}).replace(string(text)); err != nil {
			t.Errorf("FIGURES.md has no place for the table %s: %v", name, err)
		}
	}
}

// A sample counts for the innermost function that is in an item.
func TestCostsOfAProfile(t *testing.T) {
	const traces = `File: rescind
Type: cpu
-----------+-------------------------------------------------------
      10us   internal/runtime/syscall/linux.Syscall6
             internal/poll.(*FD).Write (inline)
             google.golang.org/grpc/internal/transport.(*bufWriter).Flush
-----------+-------------------------------------------------------
   5e+03us   runtime.memmove
             rescind/envoy.(*reading).walk
             google.golang.org/grpc.(*Server).handleStream
-----------+-------------------------------------------------------
       7us   runtime.memmove
             runtime.rt0_go
`
	want := []cost{{item: "rescind reads the Check and writes the answer", micros: 5000}, {item: "the system writes to the connection", micros: 10}, {item: "other", micros: 7}}
	got := costsOf(traces)
	if len(got) != len(want) {
		t.Fatalf("got %d items %+v, want %d", len(got), got, len(want))
	}
	for i, w := range want {
		if got[i].item != w.item || got[i].micros != w.micros {
			t.Errorf("item %d: got %+v, want %+v", i, got[i], w)
		}
	}
}

// A request at a constant rate counts from the time at which it had to be sent, so a
// server that stands still delays those requests too.
func TestLatencyBeginsAtTheSchedule(t *testing.T) {
	c := newConn(nil, func(int) []byte { return make([]byte, 8) }, 0)
	at := time.Now().Add(-time.Second)
	if sent, err := c.sendIfRoom(at); !sent || err != nil {
		t.Fatalf("send: got %v, %v", sent, err)
	}
	if got := c.began[1]; !got.Equal(at) {
		t.Errorf("a late request: it counts from %v, want %v", got, at)
	}
	c.window = 0
	if sent, err := c.sendIfRoom(at); sent || err != nil {
		t.Errorf("without room: got %v, %v, want nothing sent", sent, err)
	}
}
