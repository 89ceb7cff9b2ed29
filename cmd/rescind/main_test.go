package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"

	"rescind/cmd/internal/config"
	"rescind/revocation/control"
	"rescind/revocation/intake"
	"rescind/revocation/ledger"
	"rescind/revocation/store"
	"rescind/test/eventually"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"rescind": main}) }

// The scripts are for the client commands, against a control endpoint and a
// replica that run in this process. Each script has its own control endpoint.
//
//	exits 2 rescind revoke       runs a command that must end with that status
//	capture ID 'r[0-9]+\.[0-9]+'  sets $ID to the match in standard output
func TestScripts(t *testing.T) {
	r := startReplica(t, nil)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "capture": capture},
		Setup: func(env *testscript.Env) error {
			e := serve(t)
			e.follows(control.Replica{Name: "replica-a", Connected: true, Revision: 1 << 40, Entries: 3})
			env.Setenv("RESCIND_CONTROL", e.url)
			env.Setenv("RESCIND_TOKEN", tokenOf("operator"))
			env.Setenv("RESCIND_AUTHZ", r.addr)
			env.Setenv("JWT", r.token(nil))
			env.Setenv("NAMELESS", r.token(map[string]any{"jti": ""}))
			for name, text := range map[string]string{
				"viewer.token": tokenOf("viewer"), "revoker.token": tokenOf("revoker"), "good.jwt": r.token(nil), "revoked.jwt": r.token(map[string]any{"sub": "mallory"}),
			} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(text+"\n"), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits status command...")
	}
	status := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s cannot be run: %v", args[1], err)
	}
	if strconv.Itoa(status) != args[0] {
		ts.Fatalf("exit status %d, want %s", status, args[0])
	}
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture name regexp")
	}
	found := regexp.MustCompile(args[1]).FindString(ts.ReadFile("stdout"))
	if found == "" {
		ts.Fatalf("nothing matches %s", args[1])
	}
	ts.Setenv(args[0], found)
}

func noTerminal(any) int { return 0 }

const idp = "https://idp.example.com/"

func tokenOf(name string) string { return "secret-of-" + name }

// endpoint is a control endpoint on a durable log, with replicas of the test's own.
type endpoint struct {
	t   testing.TB
	url string
	api http.Handler

	mu       sync.Mutex
	replicas []control.Replica
}

// serving are the options of an endpoint.
type serving struct {
	control.Options
	authority ledger.AuthorityOptions
	intakes   func(*ledger.Authority) *intake.Doors
}

func serve(t testing.TB, changes ...func(*serving)) *endpoint {
	t.Helper()
	log, err := store.Open(context.Background(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	l := ledger.New(log, ledger.Options{Retention: 720 * time.Hour})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	eventually.Succeeds(t, "the ledger has read its log", l.Ready)
	e := &endpoint{t: t}
	credential := func(name string, role ledger.Role) control.Credential {
		return control.Credential{Name: name, SHA256: sha256.Sum256([]byte(tokenOf(name))), Roles: []ledger.Role{role}}
	}
	p := serving{Options: control.Options{
		Credentials: []control.Credential{credential("operator", ledger.Operator), credential("revoker", ledger.Revoker), credential("viewer", ledger.Viewer)},
		Replicas:    func() []control.Replica { e.mu.Lock(); defer e.mu.Unlock(); return e.replicas },
		WaitApplied: e.waitApplied,
	}}
	for _, change := range changes {
		change(&p)
	}
	p.authority.Ask = p.Ask
	p.Authority = ledger.NewAuthority(l, p.authority)
	if p.intakes != nil {
		p.Intakes = p.intakes(p.Authority)
	}
	if e.api, err = control.NewServer(p.Options); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(e.api)
	t.Cleanup(s.Close)
	e.url = s.URL
	return e
}

// follows says which replicas there are.
func (e *endpoint) follows(replicas ...control.Replica) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.replicas = replicas
}

func (e *endpoint) waitApplied(_ context.Context, w ledger.Wanted) (a control.Applied) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.replicas {
		a.Total++
		if r.Revision >= w.Revision {
			a.Applied++
			if r.Issuers == nil || slices.Contains(r.Issuers, w.Issuer) {
				a.Accepting++
			}
		} else {
			a.Pending = append(a.Pending, r.Name)
		}
	}
	return a
}

// said is the exit status and the output of one run of the program.
type said struct {
	t         testing.TB
	args      []string
	status    int
	out, errs string
}

// rescind runs the program for operator.
func (e *endpoint) rescind(args ...string) said {
	e.t.Helper()
	return rescind(e.t, map[string]string{"RESCIND_CONTROL": e.url, "RESCIND_TOKEN": tokenOf("operator")}, "", args...)
}

func rescind(t testing.TB, env map[string]string, in string, args ...string) said {
	t.Helper()
	var out, errs bytes.Buffer
	status := run(args, strings.NewReader(in), &out, &errs, func(name string) string { return env[name] })
	return said{t, args, status, out.String(), errs.String()}
}

// want checks the exit status and that the texts were said, on either stream.
func (s said) want(status int, texts ...string) said {
	s.t.Helper()
	if s.status != status {
		s.t.Fatalf("rescind %q: exit status %d, want %d\n%s%s", s.args, s.status, status, s.out, s.errs)
	}
	for _, text := range texts {
		if !strings.Contains(s.out+s.errs, text) {
			s.t.Errorf("rescind %q does not say %q:\n%s%s", s.args, text, s.out, s.errs)
		}
	}
	return s
}

func (s said) json(into any) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.out), into); err != nil {
		s.t.Fatalf("rescind %q: %v\n%s", s.args, err, s.out)
	}
}

func (s said) document() (d control.Document) { s.t.Helper(); s.json(&d); return d }

// A usage error ends with exit status 2, and the control endpoint gets no request.
func TestWrongUsage(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer s.Close()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"", "Servers:"}, // the help
		{"nosuch", `there is no command "nosuch"`},
		{"rewoke", `there is no command "rewoke", did you mean revoke?`},
		{"help nosuch", `there is no command "nosuch"`},
		{"help rewoke", "did you mean revoke?"},
		{"help token nwe", "did you mean new?"},
		{"token nwe", "did you mean new?"},
		{"version extra", `"extra" is one argument too many`},
		{"list --nosuch", "unknown flag --nosuch\n"},
		{"list -x", "unknown flag -x\n"},
		{"revoke --reson x", "unknown flag --reson, did you mean --reason?"},
		{"revoke --resaon=x", "did you mean --reason?"},
		{"revoke -reason x", "unknown flag -reason, did you mean --reason?"},
		{"revoke --expires 30d", "did you mean --expires-in?"},
		{"revoke --sud alice", "did you mean --sub or --sid?"},
		{"list --outptu json", "did you mean --output?"},
		{"list --\x1b[31m", `unknown flag --"\x1b[31m"`},
		{"list -o xml", "the output must be text, wide or json"},
		{"authz", "--config is missing; it names the configuration file"},
		{"control --check", "--config is missing"},
		{"list extra", "one argument too many"},
		{"list --active --restored", "--active and --restored exclude each other"},
		{"list --limit -1", "--limit must be 0 or more; it is -1"},
		{"list --limit many", "invalid argument"},
		{"list --claim alice", "it must be name=value"},
		{"show", "the ID of a revocation is missing"},
		{"show 17", `"17" is not the ID of a revocation; an ID looks like r17.0`},
		{"restore r1.0 r2.0", "one argument too many"},
		{"restore ../replicas", "is not the ID of a revocation"},
		{"restore r1.0 --timeout 3s", "--timeout needs --wait"},
		{"restore r1.0 --wait --timeout 2m", "at most 1m; it is 2m0s"},
		{"restore r1.0 --wait --timeout 0s", "must be more than 0"},
		{"restore r1.0 --wait --timeout 1d", "at most 1m; it is 24h0m0s"},
		{"revoke", "name the tokens: one or more"},
		{"revoke --issuer i", "name the tokens: one or more"},
		{"revoke --sub alice", "--issuer is missing"},
		{"revoke --issuer= --sub alice", "--issuer is empty"},
		{"revoke --issuer i --sub= --client c", "--sub is empty"},
		{"revoke --issuer i --kid= --all", "--kid is empty"},
		{"revoke --issuer i --sub alice --kid k", "--kid cannot stand beside claims"},
		{"revoke --issuer i --sub alice --all", "--all cannot stand beside claims"},
		{"revoke --issuer i --kid k --all", "--all cannot stand beside --kid"},
		{"revoke --token x.y.z --sub alice", "--token cannot stand beside claims"},
		{"revoke --token -", "standard input has no token"},
		{"revoke --issuer i --sub a --claim sub=b", "the claim sub is given twice"},
		{"revoke --issuer i --client a --claim client_id=b", "the claim client_id is given twice"},
		{"revoke --issuer i --claim tenant", "it must be name=value"},
		{"revoke --issuer i --claim =acme", "it must be name=value"},
		{"revoke --issuer i --claim tenant=", "it must be name=value"},
		{"revoke --issuer i --claim tenant:=acme", "must be JSON"},
		{"revoke --issuer i --claim tenant:=1x", "must be JSON"},
		{"revoke --issuer i --claim tenant:=[1]", "a string, a number or a boolean"},
		{"revoke --issuer i --claim tenant:=null", "a string, a number or a boolean"},
		{"revoke --issuer i --sub a --block --issued-before 2026-11-24T07:00:00Z", "--issued-before cannot stand beside --block"},
		{"revoke --issuer i --sub a --issued-before yesterday", "--issued-before yesterday: it must be a time"},
		{"revoke --issuer i --sub a --expires-in 0s", "must be more than 0"},
		{"revoke --issuer i --sub a --expires-in 0d", "must be more than 0"},
		{"revoke --issuer i --sub a --expires-in -1h", "must be more than 0"},
		{"revoke --issuer i --sub a --expires-in 1.5d", "write it as 30s, 5m, 1h30m or 30d"},
		{"revoke --issuer i --sub a --timeout 3s", "--timeout needs --wait"},
		{"revoke --issuer i --sub a --dry-run --yes", "--yes cannot stand beside --dry-run"},
		{"revoke --issuer i --sub a --dry-run --wait", "--wait cannot stand beside --dry-run"},
		{"alerts --detector nosuch", "--detector nosuch: it must be one of revoked_token_used"},
		{"alerts --since yesterday", "--since yesterday: it must be a time"},
		{"alerts --since -1h", "--since -1h: it must be a time"},
		{"alerts --limit -1", "--limit -1"},
		{"alerts extra", "one argument too many"},
		{"activity", "name the tokens by one of"},
		{"activity alice", "one argument too many"},
		{"activity --sub a --jti b", "not two"},
		{"advise extra", "one argument too many"},
		{"import", "a file, or - for standard input, is missing"},
		{"import /no/such/file", "no such file or directory"},
		{"import " + dir, "is a folder"},
		{"import - --from-line 0", "lines are counted from 1"},
		{"replicas --control ftp://x", "is not the URL of a control endpoint"},
		{"replicas --control 127.0.0.1:9390", "is not the URL of a control endpoint"},
		{"replicas --control http://u:p@127.0.0.1", "is not the URL of a control endpoint"},
		{"replicas --control http://control.example.com:9390", "the admin token would cross the network in plain text"},
		{"replicas --ca-file ca.pem", "are for https"},
		{"replicas --control https://127.0.0.1:1 --ca-file /no/such", "no such file"},
		{"replicas --control https://127.0.0.1:1 --cert-file x", "come together"},
		{"replicas --token-file /no/such", "--token-file: open /no/such"},
		{"replicas --token-file " + empty, "is empty"},
		{"check", "a token, or - for standard input, is missing"},
		{"check -", "standard input has no token"},
		{"check x --header y", "it must be name=value"},
		{"check x --timeout 0s", "must be more than 0"},
		{"check x --ca-file /no/such", "no such file"},
		{"check x eyJhbGciOiJub25lIn0.e30.x", "one token is expected, and there are 2 arguments; put the token in quotes"},
		{"check " + empty, empty + " is the name of a file; write - <" + empty},
		{"revoke --token " + empty, "is the name of a file"},
		{"check x --authz nonsense", "--authz nonsense: it must be host:port, or unix:///path"},
		{"check x --place cookie", "--place and --fetch-keys need --config"},
		{"check x --fetch-keys", "--place and --fetch-keys need --config"},
	} {
		env := map[string]string{"RESCIND_CONTROL": s.URL, "RESCIND_TOKEN": "secret"}
		got := rescind(t, env, "", strings.Fields(c.args)...).want(statusUsage, c.want)
		if got.out != "" {
			t.Errorf("%s: got %s on standard output, want nothing", c.args, got.out)
		}
		if c.args != "" && strings.Count(got.errs, "\n") != 2 {
			t.Errorf("%s: got on standard error\n%s\nwant a line and a hint", c.args, got.errs)
		}
	}
	rescind(t, map[string]string{"RESCIND_CONTROL": s.URL}, "", "list").want(statusUsage, "set RESCIND_TOKEN")
	got := rescind(t, map[string]string{"RESCIND_CONTROL": s.URL, "RESCIND_TOKEN": "two\nlines"}, "", "list").want(statusUsage, "RESCIND_TOKEN does not hold an admin token")
	if strings.Contains(got.errs, "lines\n") {
		t.Errorf("a RESCIND_TOKEN of two lines: got %q, want an error that does not show it", got.errs)
	}
	if asked > 0 {
		t.Errorf("wrong usage: got %d requests to the control endpoint, want none", asked)
	}
}

// Every flag that takes a duration takes whole days too.
func TestDurationsOfFlags(t *testing.T) {
	root := (&app{getenv: func(string) string { return "" }, width: noTerminal}).command()
	durations := 0
	for _, cmd := range root.Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() != "duration" {
				return
			}
			durations++
			if err := f.Value.Set("2d"); err != nil || f.Value.String() != "48h0m0s" {
				t.Errorf("%s --%s 2d: got %v and %s, want 48h", cmd.CommandPath(), f.Name, err, f.Value)
			}
		})
	}
	if durations < 4 {
		t.Errorf("got %d flags with a duration, want --expires-in and each --timeout", durations)
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range []string{"help", "--help", "help revoke", "revoke --help", "completion bash"} {
		if got := rescind(t, nil, "", strings.Fields(args)...).want(0); got.out == "" || got.errs != "" {
			t.Errorf("rescind %s: standard output %q, standard error %q, want text on the first alone", args, got.out, got.errs)
		}
	}
	rescind(t, nil, "", "help").want(0, "Servers:", "Revoking:", "Looking:", "Exit statuses:")
	if got, want := rescind(t, nil, "", "--version").want(0).out, rescind(t, nil, "", "version").want(0, "rescind ", "commit ", "go1.").out; got != want {
		t.Errorf("rescind --version: got %q, want %q, as rescind version", got, want)
	}
	var b build
	rescind(t, nil, "", "-o", "json", "version").want(0).json(&b)
	if b.Version == "" || b.Commit == "" || !strings.HasPrefix(b.Go, "go1.") {
		t.Errorf("version -o json prints %+v, want a version, a commit and a Go version", b)
	}
	release, commit = "1.2.3", "abc"
	defer func() { release, commit = "", "" }()
	rescind(t, nil, "", "version").want(0, "rescind 1.2.3\ncommit  abc\n")
}

func TestReportOfAConfiguration(t *testing.T) {
	var b bytes.Buffer
	if status := report(&b, "rescind authz", &config.Unusable{Err: io.ErrUnexpectedEOF}); status != statusUsage || b.String() != "rescind authz: the configuration cannot be used:\nunexpected EOF\n" {
		t.Errorf("an unusable configuration: exit status %d and %q, want %d and the fault", status, b.String(), statusUsage)
	}
}
