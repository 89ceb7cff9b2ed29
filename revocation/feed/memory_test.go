package feed

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rescind/test/eventually"
)

// A control endpoint that was killed waits for the replicas that it had.
func TestReplicasAreRememberedOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		log.revoke("alice")
		dir := t.TempDir()
		before, wires := serveInMemory(t, log, ServerOptions{Memory: Folder(dir)})
		hello := newHello("replica-a", "log-1", 1)
		a, _ := wires.call(t, hello)
		a.ack(1)
		b, _ := wires.call(t, newHello("replica-b", "log-1", 1))
		b.ack(1)
		time.Sleep(time.Second)
		if got := applied(before, 1); got.Applied != 2 {
			t.Fatalf("before the restart: got %+v, want 2 applied", got)
		}
		left, err := os.ReadFile(filepath.Join(dir, "replicas.json"))
		if err != nil {
			t.Fatalf("reading replicas.json: got %v, want no error", err)
		}

		// A killed process leaves this file.
		dir = t.TempDir()
		file := filepath.Join(dir, "replicas.json")
		if err := os.WriteFile(file, left, 0o600); err != nil {
			t.Fatalf("writing replicas.json: got %v, want no error", err)
		}
		after, wires := serveInMemory(t, log, ServerOptions{Memory: Folder(dir)})
		if got := applied(after, 1); got.Total != 2 || !slices.Equal(got.Pending, []string{"replica-a", "replica-b"}) {
			t.Errorf("before a replica is back: got %+v, want 2 in total and both pending", got)
		}
		a, _ = wires.call(t, hello)
		time.Sleep(time.Second)
		if got := applied(after, 1); got.Applied != 0 {
			t.Errorf("after the hello of replica-a: got %+v, want none applied", got)
		}
		a.ack(1)
		synctest.Wait()
		if got := applied(after, 1); got.Applied != 1 || !slices.Equal(got.Pending, []string{"replica-b"}) {
			t.Errorf("after replica-a is back: got %+v, want 1 applied and replica-b pending", got)
		}
		began := time.Now()
		if got := after.WaitApplied(t.Context(), Wanted{Revision: 1}); got.Applied != 1 || got.Total != 1 {
			t.Errorf("once replica-b is forgotten: got %+v, want 1 of 1 applied", got)
		}
		if d := time.Since(began); d != 59*time.Second {
			t.Errorf("replica-b counted for %v more, want 59s", d)
		}
		after.Close()
		if b, err := os.ReadFile(file); err != nil || strings.Contains(string(b), "replica-b") || !strings.Contains(string(b), "replica-a") {
			t.Errorf("replicas.json after Close: got %s and %v, want replica-a alone", b, err)
		}
	})
}

func TestAMemoryThatIsNone(t *testing.T) {
	for name, text := range map[string]string{
		"empty":     "",
		"cut off":   `[{"name":"a","insta`,
		"no list":   `{}`,
		"no name":   `[{"instance":"00000000000000000000000000000000"}]`,
		"short":     `[{"name":"a","instance":"00"}]`,
		"no hex":    `[{"name":"a","instance":"zz"}]`,
		"more":      `[{"name":"a","instance":"00000000000000000000000000000000","x":1}]`,
		"line feed": `[{"name":"a\nb","instance":"00000000000000000000000000000000"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "replicas.json")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatalf("writing %q: got %v, want no error", text, err)
			}
			var logged lines
			s := serve(t, newLog("log-1"), ServerOptions{Memory: Folder(dir), Logger: logged.logger()})
			if n := len(s.Replicas()); n != 0 {
				t.Errorf("after reading %q: got %d replicas, want none", text, n)
			}
			if !strings.Contains(logged.text(), "are not known") {
				t.Errorf("after reading %q: log lines %q, want one that the replicas are not known", text, logged.all)
			}
			call(t, s.addr, newHello("replica-a", "", 0))
			eventually.True(t, "it is replaced", func() bool {
				b, err := os.ReadFile(file)
				return err == nil && strings.Contains(string(b), "replica-a")
			})
		})
	}
}

// fullDisk is a memory that takes nothing.
type fullDisk struct{}

func (fullDisk) LoadDocument(string) ([]byte, error) { return nil, errors.New("input/output error") }
func (fullDisk) SaveDocument(string, []byte) error   { return errors.New("no space left on device") }

func TestAMemoryThatFailsStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged lines
		s, net := serveInMemory(t, newLog("log-1"), ServerOptions{Memory: fullDisk{}, Logger: logged.logger()})
		net.call(t, helloWith("replica-a", accepting("https://a/")))
		wantIssuers(t, "with a memory that fails", s, "https://a/")
		for _, want := range []string{"input/output error", `document not saved, the control endpoint lacks its content after a restart\" document=replicas.json`, "document=issuers.json"} {
			if all := logged.text(); !strings.Contains(all, strings.ReplaceAll(want, `\"`, `"`)) {
				t.Errorf("with a full disk: got the log %s, want %q in it", all, want)
			}
		}
	})
}
