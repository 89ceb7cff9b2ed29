package demo

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"

	"rescind/envoy/envoytest"
	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
	"rescind/test/syncbuffer"
)

// Each line fits the terminal for any texts, and no part of a text is lost.
func TestTellerFits(t *testing.T) {
	t.Setenv("NO_COLOR", "1") // the widths are of the text alone
	for _, width := range []int{40, 72, 80, 120} {
		var b strings.Builder
		l := newTeller(&b, width)
		l.begin("She is de-provisioned: " + strings.Repeat("revoked once, denied everywhere ", 5))
		l.request("POST http://127.0.0.1:28656/v1/revocations?wait=all  sub=alice, " + strings.Repeat("z", 200))
		for n := range 60 {
			l.answer(n%2 == 0, strings.Repeat("a", n)+" 退職", 1234*time.Microsecond)
		}
		l.say("the revocation reaches tokens %s", strings.Repeat("issued before the next second ", 5))
		for line := range strings.Lines(b.String()) {
			if columns := uniseg.StringWidth(strings.TrimSuffix(line, "\n")); columns > width {
				t.Errorf("at %d columns: got a line of %d, want one that fits: %s", width, columns, line)
			}
		}
		if got := strings.Count(b.String(), "✓") + strings.Count(b.String(), "✗"); got != 60 || l.wrong != 30 {
			t.Errorf("at %d columns: got %d marks and %d wrong answers, want 60 and 30", width, got, l.wrong)
		}
		if got := strings.Count(b.String(), "z"); got != 200 {
			t.Errorf("at %d columns: got %d characters of a long word, want 200", width, got)
		}
	}
}

// The story has colours on a terminal that has them, and for people who want them.
func TestTellerColours(t *testing.T) {
	for _, c := range []struct {
		name, noColor string
		width         int
		want          bool
	}{{"a terminal", "", 80, true}, {"NO_COLOR", "1", 80, false}, {"no terminal", "", 0, false}} {
		t.Setenv("TERM", "xterm-256color")
		t.Setenv("NO_COLOR", c.noColor)
		var b strings.Builder
		newTeller(&output{w: &b}, c.width).answer(true, "200 OK", time.Second)
		if got := strings.ContainsRune(b.String(), '\x1b'); got != c.want {
			t.Errorf("%s: got %q, want colours: %v", c.name, b.String(), c.want)
		}
	}
}

// A step that waits shows it, and the line goes away with the answer.
func TestTellerWaits(t *testing.T) {
	t.Setenv("NO_COLOR", "1") // the widths are of the text alone
	b := &syncbuffer.Buffer{}
	l := newTeller(b, 80)
	release, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- l.wait(func() error {
			<-release
			l.say("in between")
			return context.Canceled
		})
	}()
	eventually.Succeeds(t, "a line shows the wait", func() error {
		if !strings.Contains(b.String(), "\r   … 0.") {
			return errors.New("got " + b.String())
		}
		return nil
	})
	close(release)
	err := <-ended
	if !errors.Is(err, context.Canceled) {
		t.Errorf("wait: got %v, want the error of its function", err)
	}
	if got := b.String(); !strings.Contains(got, "\r   in between\n") {
		t.Errorf("a line printed while a step waits: got %q, want it in the place of the line about the wait", got)
	}
}

// A taken port is named, with the flag that changes it, before anything starts.
func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	err = Run(t.Context(), Options{Port: l.Addr().(*net.TCPAddr).Port, Replicas: 1, Dir: filepath.Join(t.TempDir(), "x"), Out: &strings.Builder{}})
	if err == nil || !strings.Contains(err.Error(), "port "+port+" is taken; --port N takes port N") {
		t.Errorf("a taken port: got %v, want an error that names it and --port", err)
	}
}

// A machine that cannot build the module hears which program it needs.
func TestModuleNeedsACompiler(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the module is for Linux")
	}
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	t.Setenv("CC", "")
	for _, missing := range []string{"make", "cc"} {
		_, err := buildModule(t.Context(), t.TempDir())
		if want := strconv.Quote(missing) + " is not on PATH; install make and gcc or clang"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: got %v, want %q in the error", missing, err, want)
		}
		if err := os.WriteFile(filepath.Join(bin, missing), []byte("#!/bin/sh\necho no room for the module >&2; exit 1\n"), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	if _, err := buildModule(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "no room for the module") {
		t.Errorf("with a compiler that fails: got %v, want its output in the error", err)
	}
}

// The demo ends with the reader of its output, also while it prints nothing.
func TestOutputWithoutAReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, out, end := watch(t.Context(), w)
	defer end()
	if _, err := out.Write([]byte("x")); err != nil || ctx.Err() != nil {
		t.Fatalf("with a reader: got %v and %v, want the demo to go on", err, context.Cause(ctx))
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, ErrUnread) {
		t.Errorf("without a reader: got %v, want %v", err, ErrUnread)
	}
	if _, err := out.Write([]byte("x")); err == nil {
		t.Error("a write without a reader succeeds, want an error")
	}
}

// The printed commands fit a terminal and hold no token. Their token lives an hour
// and stands in a file that its owner alone reads.
func TestInvitation(t *testing.T) {
	t.Setenv("NO_COLOR", "1") // the widths are of the text alone
	issuer, err := jwkstest.Start(jwkstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer issuer.Close()
	dir := t.TempDir()
	s := &envoytest.Stack{Options: envoytest.Options{Dir: dir}, Issuer: issuer, Token: "operator-secret", TokenFile: filepath.Join(dir, "operator.token"),
		ControlURLs: []string{"http://127.0.0.1:10001"}, GatewayURL: "http://127.0.0.1:10000", GRPC: []string{"127.0.0.1:10002"}, HTTP: []string{"127.0.0.1:10003"}}
	var b strings.Builder
	if err := invite(newTeller(&b, 80), s, "/usr/bin/rescind"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "bob.token"))
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(text))
	exp, err := envoytest.Claim(token, "exp")
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(time.Unix(int64(exp.(float64)), 0)); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the token lives %s, want an hour", left)
	}
	if info, err := os.Stat(filepath.Join(dir, "bob.token")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the token: got %v and %v, want mode 0600", info.Mode(), err)
	}
	if !strings.Contains(b.String(), "$(cat bob.token)") || strings.Contains(b.String(), token) || strings.Contains(b.String(), "operator-secret") {
		t.Errorf("the commands: got\n%swant the file named, and no token", &b)
	}
	for line := range strings.Lines(b.String()) {
		if columns := uniseg.StringWidth(strings.TrimSuffix(line, "\n")); columns > 80 && !strings.Contains(line, "cd /") {
			t.Errorf("got a command of %d columns, want at most 80: %s", columns, line)
		}
	}
}
