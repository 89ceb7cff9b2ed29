package control

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/revocation"
	"rescind/revocation/ledger"
	"rescind/revocation/store"
)

// childDir makes the test binary a control endpoint on that directory.
const childDir = "RESCIND_TEST_CONTROL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, child(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func child(dir string) error {
	log, err := store.Open(context.Background(), store.Options{Dir: dir})
	if err != nil {
		return err
	}
	l := ledger.New(log, ledger.Options{Retention: retention})
	server, err := NewServer(Options{Authority: ledger.NewAuthority(l, ledger.AuthorityOptions{}), Credentials: []Credential{credential("operator", nil, ledger.Operator)},
		Replicas:    func() []Replica { return nil },
		WaitApplied: func(context.Context, ledger.Wanted) Applied { return Applied{} }})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- l.Run(context.Background()) }()
	for l.Ready() != nil {
		select {
		case err := <-failed:
			return err
		case <-time.After(time.Millisecond):
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return http.Serve(listener, server)
}

// start runs a child and returns its address.
func start(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Wait()
		t.Fatalf("starting the control endpoint: got %v, want its address", err)
	}
	return cmd, strings.TrimSpace(addr)
}

// An acknowledged revocation is there after a kill -9 at any moment, restored where
// that was acknowledged, and is in the audit. RESCIND_ROUNDS sets how often it
// is killed (default 15).
func TestKilledUnderLoadNothingAcknowledgedIsLost(t *testing.T) {
	rounds := 15
	if s := os.Getenv("RESCIND_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		rounds = n
	}
	dir := t.TempDir()
	var mu sync.Mutex
	acknowledged := map[string]bool{} // ID → restored
	for round := range rounds {
		cmd, addr := start(t, dir)
		var all sync.WaitGroup
		for caller := range 16 {
			all.Go(func() {
				for i := 0; ; i++ {
					d, err := ask[Document]("POST", addr, "", claims(issuerA, fmt.Sprintf(`{"jti":"%d-%d-%d"}`, round, caller, i)))
					if err != nil {
						return
					}
					mu.Lock()
					acknowledged[d.ID] = false
					mu.Unlock()
					if i%3 == 0 {
						if _, err := ask[Restoration]("DELETE", addr, "/"+d.ID, ""); err != nil {
							mu.Lock()
							delete(acknowledged, d.ID) // either is right
							mu.Unlock()
							return
						}
						mu.Lock()
						acknowledged[d.ID] = true
						mu.Unlock()
					}
				}
			})
		}
		time.Sleep(50*time.Millisecond + rand.N(250*time.Millisecond))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		all.Wait()
		_ = cmd.Wait()
		verify(t, dir, acknowledged)
	}
	t.Logf("%d rounds, %d acknowledged", rounds, len(acknowledged))
}

func ask[T any](method, addr, path, body string) (out T, err error) {
	r, err := http.NewRequest(method, "http://"+addr+"/v1/revocations"+path, strings.NewReader(body))
	if err != nil {
		return out, err
	}
	r.Header.Set("Authorization", "Bearer token-operator")
	r.Header.Set("Content-Type", typeJSON)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return out, err
	}
	if resp.StatusCode > 201 {
		return out, fmt.Errorf("status %d: %s", resp.StatusCode, b)
	}
	return out, json.Unmarshal(b, &out)
}

func verify(t *testing.T, dir string, acknowledged map[string]bool) {
	t.Helper()
	log, err := store.Open(t.Context(), store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	l, stop := run(t, log, nil)
	defer stop()
	for text, restored := range acknowledged {
		id, err := revocation.ParseID(text)
		if err != nil {
			t.Fatal(err)
		}
		item, err := l.Find(id)
		if err != nil {
			t.Fatalf("%s after a kill: got %v, want the acknowledged revocation", text, err)
		}
		if (item.Restored != nil) != restored {
			t.Fatalf("%s after a kill: got restored %v, want restored: %v", text, item.Restored, restored)
		}
	}
	audited := map[string]bool{}
	if err := l.Audit(t.Context(), ledger.AuditCursor{}, time.Time{}, func(_ ledger.AuditCursor, e ledger.AuditEntry) bool {
		audited[e.Action+e.ID] = true
		return true
	}); err != nil {
		t.Fatal(err)
	}
	for text, restored := range acknowledged {
		if !audited[ledger.ActRevoke+text] || restored && !audited[ledger.ActRestore+text] {
			t.Fatalf("%s (restored: %v) after a kill: got an audit without it, want its acknowledged changes there", text, restored)
		}
	}
}
