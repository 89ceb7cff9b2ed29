package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"rescind/revocation/control"
)

func lineFor(jti string) string { return fmt.Sprintf(`{"issuer":%q,"claims":{"jti":%q}}`, idp, jti) }

func TestParts(t *testing.T) {
	for _, c := range []struct {
		name, file         string
		skip               int
		maxLines, maxBytes int
		want               string // each part: its lines, then their numbers
	}{
		{"empty", "", 0, 3, 100, ""},
		{"blank", "\n  \r\n\n", 0, 3, 100, ""},
		{"one without an end", "a", 0, 3, 100, "a[1]"},
		{"exactly one part", "a\nb\nc\n", 0, 3, 100, "abc[1 2 3]"},
		{"one line more", "a\nb\nc\nd", 0, 3, 100, "abc[1 2 3] d[4]"},
		{"blank lines do not count", "\na\n\n\nb\n \nc\n\n\nd\n\n", 0, 3, 100, "abc[2 5 7] d[10]"},
		{"blank lines follow the last part", "a\nb\nc\n\n\n", 0, 3, 100, "abc[1 2 3]"},
		{"carriage returns", "a\r\nb\r\n", 0, 3, 100, "ab[1 2]"},
		{"by bytes", "aaaa\nbbbb\ncccc\n", 0, 3, 10, "aaaabbbb[1 2] cccc[3]"},
		{"a line larger than a part", "aaaa\nbbbbbbbbbbbb\ncc\n", 0, 3, 10, "aaaa[1] bbbbbbbbbbbb[2] cc[3]"},
		{"from a line", "a\n\nb\nc\n", 2, 3, 100, "bc[3 4]"},
		{"from behind the last", "a\nb\n", 2, 3, 100, ""},
	} {
		for _, reader := range []io.Reader{strings.NewReader(c.file), iotest.OneByteReader(strings.NewReader(c.file)), iotest.DataErrReader(strings.NewReader(c.file))} {
			p := newPartReader(reader)
			p.maxLines, p.maxBytes = c.maxLines, c.maxBytes
			if err := p.skip(c.skip); err != nil {
				t.Fatal(err)
			}
			var got []string
			last := false
			for {
				more, err := p.next()
				if err != nil {
					t.Fatal(err)
				}
				if !more {
					break
				}
				if last {
					t.Errorf("%s: got a part after the last one, want none", c.name)
				}
				last = p.last()
				got = append(got, fmt.Sprint(strings.ReplaceAll(string(p.body), "\n", ""), p.numbers))
			}
			if s := strings.Join(got, " "); s != c.want || last != (c.want != "") || p.read != int64(len(c.file)) {
				t.Errorf("%s: %q, want %q; last %v; %d bytes read", c.name, s, c.want, last, p.read)
			}
		}
	}
}

func TestPartsThatCannotBeRead(t *testing.T) {
	p := newPartReader(strings.NewReader("a\n" + strings.Repeat("b", maxLine+1) + "\n"))
	if _, err := p.next(); !errors.Is(err, errLine) || !strings.Contains(err.Error(), "line 2 is longer than 65536 bytes") {
		t.Errorf("a line of %d bytes: got %v, want that line 2 is longer than 65536 bytes", maxLine+1, err)
	}
	p = newPartReader(strings.NewReader(strings.Repeat("b", maxLine) + "\r\nc"))
	if more, err := p.next(); !more || err != nil || len(p.numbers) != 2 {
		t.Errorf("a line of %d bytes and another: got %v with the lines %v, %v, want both", maxLine, more, p.numbers, err)
	}
	p = newPartReader(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(errors.New("disk on fire"))))
	if _, err := p.next(); !errors.Is(err, errLine) || !strings.Contains(err.Error(), "after line 1: disk on fire") {
		t.Errorf("a file that breaks off in line 2: got %v, want after line 1: disk on fire", err)
	}
	if err := newPartReader(strings.NewReader("a\nb\n")).skip(3); err == nil || !strings.Contains(err.Error(), "it has only 2 lines") {
		t.Errorf("skipping 3 of 2 lines: got %v, want that it has only 2 lines", err)
	}
}

// importing is an import of file in parts of two lines.
func importing(t *testing.T, e *endpoint, url, file string) (*importer, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{out: &out, errs: &errs, getenv: func(string) string { return tokenOf("operator") }, now: time.Now, width: noTerminal}
	conn := &connection{app: a, control: url}
	c, err := conn.open()
	if err != nil {
		t.Fatal(err)
	}
	i := &importer{app: a, client: c, name: "f.ndjson", reader: newPartReader(strings.NewReader(file)), progress: newProgress(a, -1)}
	i.reader.maxLines = 2
	return i, &out, &errs
}

// finish reports as the program would.
func finish(err error) (int, string) {
	var b bytes.Buffer
	if err == nil {
		return 0, ""
	}
	status := report(&b, "rescind import", err)
	return status, b.String()
}

func (e *endpoint) count(t *testing.T) int {
	t.Helper()
	var p page
	e.rescind("list", "--limit", "0", "-o", "json").want(0).json(&p)
	return len(p.Items)
}

func TestImportInParts(t *testing.T) {
	e := serve(t)
	e.follows(control.Replica{Name: "a", Revision: 1})
	waited := 0
	url, asked := e.hinder(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Query().Get("wait") == "all" {
			waited++
		}
		return true
	})
	i, out, _ := importing(t, e, url, lineFor("1")+"\n\n"+lineFor("2")+"\n"+lineFor("3")+"\n"+lineFor("4")+"\n"+lineFor("5")+"\n\n")
	i.w = waitFlags{true, 100 * time.Millisecond}
	status, text := finish(i.run(t.Context()))
	if status != statusUnconfirmed || !strings.Contains(text, "not confirmed within 100ms by a") || !strings.HasPrefix(out.String(), "5 revocations are in force as of revision ") {
		t.Errorf("5 lines, one replica behind: got status %d, %s and %s, want %d, not confirmed by a, and 5 in force", status, text, out, statusUnconfirmed)
	}
	if asked.Load() != 3 || waited != 1 || e.count(t) != 5 {
		t.Errorf("5 lines in parts of 2: got %d requests, %d of them waiting, and %d in force, want 3, 1 and 5", asked.Load(), waited, e.count(t))
	}
}

func TestImportOfFaultyLines(t *testing.T) {
	e := serve(t)
	file := strings.Join([]string{lineFor("1"), "", lineFor("2"), lineFor("3"), "", "", `{"issuer":":x","claims":{"sub":""}}`, lineFor("5")}, "\n")
	i, _, _ := importing(t, e, e.url, file)
	status, text := finish(i.run(t.Context()))
	for _, want := range []string{
		"rescind import: lines of the file are faulty:\n", "  line 7: issuer: \":x\"", "  line 7: claims.sub: must not be empty",
		"it stopped at lines 4 to 7: none of them was revoked; the 2 revocations before them are in force\n",
		"to go on, once the lines are correct: rescind import f.ndjson --from-line 4\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("a faulty line 7: got the text\n%s\nwant %q in it", text, want)
		}
	}
	if n := e.count(t); status != 1 || n != 2 {
		t.Errorf("a faulty line 7: got exit status %d and %d in force, want 1 and 2", status, n)
	}
	// Mended, it goes on from there.
	i, _, _ = importing(t, e, e.url, strings.Replace(file, `{"issuer":":x","claims":{"sub":""}}`, lineFor("4"), 1))
	if err := i.reader.skip(3); err != nil {
		t.Fatal(err)
	}
	if status, text := finish(i.run(t.Context())); status != 0 || e.count(t) != 5 {
		t.Errorf("from the mended line on: got exit status %d, %s, and %d in force, want 0 and 5", status, text, e.count(t))
	}
}

func TestImportThatIsCutOff(t *testing.T) {
	e := serve(t)
	var later int
	url, _ := e.hinder(func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 1 {
			return true
		}
		if later++; later == 1 { // done, and nobody hears of it
			e.api.ServeHTTP(httptest.NewRecorder(), r)
		}
		drop(w)
		return false
	})
	file := strings.Join([]string{lineFor("1"), lineFor("2"), lineFor("3"), lineFor("4")}, "\n")
	i, _, _ := importing(t, e, url, file)
	status, text := finish(i.run(t.Context()))
	if status != 1 || !strings.Contains(text, "it stopped at lines 3 to 4: whether they were revoked is not known, and sending them again is safe; the 2 revocations before") ||
		!strings.Contains(text, "--from-line 3") {
		t.Errorf("cut off after the first part: got exit status %d and %s, want 1 and that lines 3 to 4 are not known", status, text)
	}
	i, _, _ = importing(t, e, e.url, file) // and to begin anew is safe
	if status, text := finish(i.run(t.Context())); status != 0 || e.count(t) != 4 {
		t.Errorf("the whole file again: got exit status %d, %s, and %d in force, want 0 and 4", status, text, e.count(t))
	}
}

// A log that takes less at once is given less.
func TestImportInHalves(t *testing.T) {
	e := serve(t)
	var sizes []int
	url, _ := e.hinder(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		b, _ := io.ReadAll(r.Body)
		sizes = append(sizes, bytes.Count(b, []byte("\n")))
		if sizes[len(sizes)-1] > 2 {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			_, _ = io.WriteString(w, `{"detail":"more than the log takes at once"}`)
			return false
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		return true
	})
	var lines []string
	for n := range 7 {
		lines = append(lines, lineFor(fmt.Sprint(n)))
	}
	i, _, _ := importing(t, e, url, strings.Join(lines, "\n"))
	i.reader.maxLines = 100
	if status, text := finish(i.run(t.Context())); status != 0 || e.count(t) != 7 {
		t.Errorf("7 lines to a log that takes 2 at once: got exit status %d, %s, and %d in force, want 0 and 7", status, text, e.count(t))
	}
	if fmt.Sprint(sizes) != "[7 3 1 2 4 2 2]" {
		t.Errorf("7 lines to a log that takes 2 at once: got the parts %v, want [7 3 1 2 4 2 2]", sizes)
	}
}

func TestImportOfAFile(t *testing.T) {
	e := serve(t)
	file := filepath.Join(t.TempDir(), "f.ndjson")
	var b strings.Builder
	n := maxPartLines + 5
	for i := range n {
		b.WriteString(lineFor(fmt.Sprint(i)) + "\n")
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var got control.Import
	e.rescind("import", file, "--wait", "-o", "json").want(0).json(&got)
	if got.Accepted != n || got.Replicas == nil {
		t.Errorf("an import of %d lines: got %+v, want all accepted, and replicas", n, got)
	}
	again := got
	e.rescind("import", file, "-o", "json").want(0).json(&again)
	if again.Accepted != n || again.Revision < got.Revision {
		t.Errorf("the same import again: got %+v, want %d accepted, no revision before %d", again, n, got.Revision)
	}
	e.rescind("import", file, "--from-line", fmt.Sprint(n)).want(0, "1 revocations are in force")
	e.rescind("import", file, "--from-line", fmt.Sprint(n+1)).want(0, "there is nothing to import")
	e.rescind("import", file, "--from-line", fmt.Sprint(n+2)).want(1, "it has only 100005 lines")
	e.rescind("import", os.DevNull, "-o", "json").want(0, `"accepted": 0`)
}

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	now := time.Now()
	a := &app{errs: &b, now: func() time.Time { return now }, width: noTerminal}
	p := newProgress(a, 100)
	p.at(1000, 10)
	now = now.Add(progressInterval)
	p.at(2000, 20)
	p.at(3000, 30)
	p.end()
	if b.String() != "2,000 lines are in force\n" {
		t.Errorf("progress without a terminal: got %q, want one line of 2,000", b.String())
	}
	b.Reset()
	a.width = func(any) int { return 80 }
	for _, size := range []int64{100, 0, -1} {
		p = newProgress(a, size)
		p.at(1000, 10)
		p.at(2000, 20)
		p.end()
		if !strings.Contains(b.String(), "2,000 lines") || strings.Contains(b.String(), "\n") {
			t.Errorf("progress of size %d on a terminal: got %q, want 2,000 lines and no line feed", size, b.String())
		}
		b.Reset()
	}
}
