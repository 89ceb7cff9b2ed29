package demo

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"rescind/envoy"
	"rescind/envoy/envoytest"
	"rescind/envoy/known"
)

// The steps in which Envoy answers by itself, for tokens that its replica knows.

// buildModule builds the module for Envoy in dir from the source in this program. It
// returns the folder of librescind.so.
func buildModule(ctx context.Context, dir string) (string, error) {
	if runtime.GOOS != "linux" {
		return "", fmt.Errorf("--in-process needs Linux, because the module and the replica share sealed memory; this is %s", runtime.GOOS)
	}
	for _, program := range []string{"make", cmp.Or(os.Getenv("CC"), "cc")} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("--in-process builds the module for Envoy, and %q is not on PATH; install make and gcc or clang (Debian: apt-get install gcc libc6-dev make), or name a compiler in CC", program)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "module")); err != nil { // of an earlier demo in the same folder
		return "", err
	}
	if err := os.CopyFS(dir, envoy.ModuleSource); err != nil {
		return "", err
	}
	source := filepath.Join(dir, "module")
	if out, err := exec.CommandContext(ctx, "make", "-s", "-C", source, "OUT="+dir).CombinedOutput(); err != nil { //nolint:gosec // dir is the folder of the demo
		return "", fmt.Errorf("--in-process: the module for Envoy was not built: make -C %s: %w\n%s", source, err, out)
	}
	return dir, nil
}

// inProcess reports whether Envoy has the module.
func (s *story) inProcess() bool { return s.s.Module != "" }

// answeredInside shows that Envoy answers for a token that its replica has allowed
// twice. The figures are those of the replica: its count of answers that Envoy gave by
// itself, and its count of Checks.
func (s *story) answeredInside(ctx context.Context) error {
	s.t.say("a replica makes a token known to its Envoy at the second use; then Envoy asks nobody:")
	s.t.request(fmt.Sprintf("GET %s/ with alice's token (%s)", s.s.GatewayURL, abbreviated(s.first)))
	return s.until(ctx, "Envoy answered for alice's token by itself", func() (bool, error) {
		before, err := s.figures(ctx)
		if err != nil {
			return false, err
		}
		a, err := s.s.Get(ctx, "/", s.first)
		if err != nil {
			return false, err
		}
		after, err := s.figures(ctx)
		if err != nil || a.Status == http.StatusOK && after.inside == before.inside {
			return false, err
		}
		seen, _ := a.Seen()
		subject := seen.Header.Get("X-Jwt-Subject")
		s.t.answer(a.Status == http.StatusOK && subject == "alice" && after.checks == before.checks, fmt.Sprintf(
			"%d %s, the upstream saw x-jwt-subject: %s; answered inside Envoy: %d → %d requests, asked of the replica: %d → %d",
			a.Status, http.StatusText(a.Status), subject, before.inside, after.inside, before.checks, after.checks), a.Took)
		return true, nil
	})
}

// confirming waits until the replica beside Envoy confirms revocations. A replica with
// known tokens begins to do so a moment after its start, because Envoy could still use
// the table of an earlier one.
func (s *story) confirming(ctx context.Context) error {
	s.t.say("a replica with known tokens confirms revocations from %s after its start on, so wait for that", short(known.Grace))
	return s.t.wait(func() error {
		select {
		case <-time.After(time.Until(s.begun.Add(known.Grace))):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// openStream opens a stream with alice's token, and returns a channel that gets the
// time of its end.
func (s *story) openStream(ctx context.Context) (<-chan time.Time, error) {
	s.t.request(fmt.Sprintf("GET %s%s with alice's token, which stays open", s.s.GatewayURL, envoytest.StreamPath))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.s.GatewayURL+envoytest.StreamPath, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+s.first)
	begun := time.Now()
	a, err := http.DefaultClient.Do(r) //nolint:bodyclose // the goroutine below closes it
	if err != nil {
		return nil, err
	}
	ended := make(chan time.Time, 1)
	go func() {
		_, _ = io.Copy(io.Discard, a.Body)
		ended <- time.Now()
		_ = a.Body.Close()
	}()
	if a.StatusCode != http.StatusOK {
		s.t.answer(false, a.Status, time.Since(begun))
		return ended, nil
	}
	return ended, s.until(ctx, "the replica watched the stream", func() (bool, error) {
		now, err := s.figures(ctx)
		if err != nil || now.streams == 0 {
			return false, err
		}
		s.t.answer(true, fmt.Sprintf("%s, a stream that the replica watches", a.Status), time.Since(begun))
		return true, nil
	})
}

// streamEnded waits for the end of the stream of a token that was revoked at this
// time.
func (s *story) streamEnded(ctx context.Context, ended <-chan time.Time, revoked time.Time) error {
	s.t.request("the open stream of alice, until it ends")
	return s.until(ctx, "the stream of alice ended", func() (bool, error) {
		select {
		case at := <-ended:
			now, err := s.figures(ctx)
			s.t.answer(now.reset == 1, fmt.Sprintf("reset by Envoy (%d of the replica's streams), from revoke to reset:", now.reset), at.Sub(revoked))
			return true, err
		default:
			return false, nil
		}
	})
}

// figures are the counts of the replica beside Envoy.
type figures struct {
	inside  int // requests that Envoy answered by itself
	checks  int // requests that Envoy asked the replica about
	streams int // open streams
	reset   int // streams that ended because their tokens were revoked
}

// figures reads the metrics of the replica beside Envoy.
func (s *story) figures(ctx context.Context) (f figures, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.s.HTTP[0]+"/metrics", nil)
	if err != nil {
		return f, err
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return f, err
	}
	defer a.Body.Close() //nolint:errcheck // it was read
	wanted := map[string]*int{
		`rescind_known_requests_total{record="recorded"}`: &f.inside,
		"rescind_check_duration_seconds_count":            &f.checks,
		"rescind_streams":                                 &f.streams,
		"rescind_streams_ended_total":                     &f.reset,
	}
	found := 0
	lines := bufio.NewScanner(a.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		to := wanted[name]
		if to == nil {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return f, err
		}
		*to = int(n)
		found++
	}
	if err := lines.Err(); err != nil {
		return f, err
	}
	if found != len(wanted) {
		return f, errors.New("the metrics of the replica lack one of the figures of the demo")
	}
	return f, nil
}
