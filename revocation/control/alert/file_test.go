package alert

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rescind/revocation/insight"
	"rescind/test/eventually"
)

func TestTheFileSurvives(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alerts.json")
	down := &told{fail: func(int) error { return errors.New("down") }}
	up := &told{}
	in := open(t, Options{File: file, Targets: []Target{up.target("up"), down.target("down"), down.target("gone")}})
	for i := range 20 {
		take(t, in, "a", alertOf(insight.SubjectRate, fmt.Sprint("k", i)))
	}
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), `"k19"`) {
		t.Fatalf("20 alerts taken: got the file %s and error %v, want k19 in it", b, err)
	}
	eventually.True(t, "the target has 20 alerts", func() bool { return len(up.list()) >= 20 })
	before := in.List(Query{Limit: 100})
	in.Close()
	if err := in.Take(t.Context(), reporter("a"), nil); !errors.Is(err, errClosed) {
		t.Errorf("Take after Close: got %v, want %v", err, errClosed)
	}
	again := &told{}
	fresh := &told{}
	in = open(t, Options{File: file, Targets: []Target{up.target("up"), again.target("down"), fresh.target("new")}})
	eventually.True(t, "the target that was down has 20 alerts", func() bool { return len(again.list()) >= 20 })
	if after := in.List(Query{Limit: 100}); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("after a restart: got %v, want %v", after, before)
	}
	if len(up.list()) != 20 || len(fresh.list()) != 0 || again.list()[0] != "k0×1" || again.list()[19] != "k19×1" {
		t.Errorf("after a restart: the target that was up was told %v, the one that was down %v, a new one %v, want 20, 20 from k0×1 to k19×1, none",
			up.list(), again.list(), fresh.list())
	}
	take(t, in, "a", alertOf(insight.SubjectRate, "k0"))
	if p := in.List(Query{Limit: 100}); len(p.Items) != 20 || p.Items[19].Count != 2 {
		t.Errorf("a key of before the restart: got %d alerts, want 20; the last is %+v, want 2 sightings", len(p.Items), p.Items[len(p.Items)-1])
	}
}

func TestAFileThatIsNone(t *testing.T) {
	for name, text := range map[string]string{
		"cut off": `{"version":1,"alerts":[{"num`, "another version": `{"version":9}`, "empty": "",
	} {
		file := filepath.Join(t.TempDir(), "alerts.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		in := open(t, Options{File: file})
		take(t, in, "a", alertOf(insight.SubjectRate, "k"))
		if b, err := os.ReadFile(file + ".unreadable"); string(b) != text || err != nil {
			t.Errorf("%s: got %q and error %v in the .unreadable file, want %q", name, b, err, text)
		}
	}
	// The inbox uses the sound parts of a damaged file.
	file := filepath.Join(t.TempDir(), "alerts.json")
	text := `{"version":1,"last":3,"alerts":[{"number":2,"alert":{"id":"x","detector":"made_up","key":"k","count":1}},` +
		`{"number":2,"alert":{"id":"y","detector":"subject_rate","key":"k\u001b","count":1},"pending":["nobody"]},{"number":1,"alert":{"id":"z","detector":"subject_rate","key":"z","count":1}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := open(t, Options{File: file}).List(Query{Limit: 10}); len(p.Items) != 1 || p.Items[0].Key != "k\uFFFD" {
		t.Errorf("a file with a made-up detector, a control character and a repeated number: got %+v, want the alert k\uFFFD alone", p)
	}
}

func TestAFileThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &told{}
	in := open(t, Options{File: filepath.Join(dir, "alerts.json"), Targets: []Target{d.target("a")}})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := in.Take(t.Context(), reporter("a"), []insight.Alert{alertOf(insight.SubjectRate, "k")}); err == nil {
		t.Error("Take without a directory for the file: got no error, want one")
	}
	eventually.True(t, "the target has the alert all the same", func() bool { return len(d.list()) > 0 })
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	take(t, in, "a", alertOf(insight.SubjectRate, "k2"))
}
