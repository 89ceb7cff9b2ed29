package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rescind/revocation"
)

// withoutRules rewrites the header of a snapshot or a journal as the first
// edition wrote it: without the version of the rules.
func withoutRules(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	noError(t, "ReadFile", err)
	members, first := fmt.Sprintf(`"format":%d,"rules":%d,`, diskFormat, revocation.Rules), `"format":1,`
	begin := len(magic)
	length := int(binary.BigEndian.Uint32(b[begin:]))
	frame, rest := b[begin+8:begin+8+length], b[begin+8+length:]
	old := bytes.Replace(frame, []byte(members), []byte(first), 1)
	if len(old) != len(frame)-len(members)+len(first) {
		t.Fatalf("the header of %s is %s, want %s in it", path, frame, members)
	}
	out := append([]byte(magic), make([]byte, 8)...)
	binary.BigEndian.PutUint32(out[begin:], uint32(len(old)))
	binary.BigEndian.PutUint32(out[begin+4:], crc32.Checksum(old, castagnoli))
	noError(t, "WriteFile", os.WriteFile(path, append(append(out, old...), rest...), 0o600))
}

// TestFilesOfOtherRulesAreLoadedAgain starts a replica with files of the first
// edition. It is not ready and denies until it has loaded all entries again, it
// knows how far it was, and the files that it writes then are of its own rules.
func TestFilesOfOtherRulesAreLoadedAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		old  string // the files of the first edition
	}{{"snapshot", "*.snapshot"}, {"journal", "*.journal"}, {"both", "*[lt]"}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			f := open(t, Options{Dir: dir})
			load(t, f, "log-1", 3, "alice")
			apply(t, f, change(4, "bob"))
			f.Contact(4, time.Now(), 0)
			noError(t, "Close", f.Close())
			names, _ := filepath.Glob(filepath.Join(dir, c.old))
			for _, name := range names {
				if strings.HasPrefix(filepath.Base(name), "revocations") || strings.HasSuffix(name, journalExt) {
					withoutRules(t, name)
				}
			}

			var log bytes.Buffer
			f = open(t, Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			defer func() { noError(t, "Close", f.Close()) }()
			if _, err := f.Lookup(subjectToken("alice"), time.Now()); !errors.Is(err, ErrNotReady) {
				t.Errorf("Lookup = %v, want %v", err, ErrNotReady)
			}
			if s := f.Status(); s.Ready || !strings.Contains(strings.Join(s.Missing, "\n"), "rules") || !strings.Contains(log.String(), "rules") {
				t.Errorf("status %+v, log %s; want not ready because of the rules", s, &log)
			}
			wantPosition(t, f, "", 0)
			if err := f.Greet("log-1", 3, month); !errors.Is(err, ErrOlderRevision) {
				t.Errorf("Greet at revision 3 = %v, want %v: revision 4 was in force", err, ErrOlderRevision)
			}
			load(t, f, "log-1", 4, "alice", "bob")
			f.Contact(4, time.Now(), 0)
			if s := f.Status(); !s.Ready || len(s.Missing) != 0 {
				t.Errorf("after the load: %+v, want ready", s)
			}
			apply(t, f, change(5, "carol"))
			noError(t, "Close", f.Close())
			f = open(t, Options{Dir: dir})
			wantPosition(t, f, "log-1", 5)
			wantDenied(t, f, map[string]bool{"alice": true, "bob": true, "carol": true, "dave": false})
		})
	}
}
