package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rescind/test/eventually"
	"rescind/test/freeport"
	"rescind/test/interop/admin"
)

const issuer = "https://idp.example.com/"

// startControl runs a control endpoint alone until the test ends, and returns its
// URL. The operator's token is operator.
func startControl(t *testing.T) string {
	t.Helper()
	dir, addrs := t.TempDir(), freeport.Addrs(t, 2)
	config := filepath.Join(dir, "control.yaml")
	text := fmt.Sprintf(`http: {listen: "%s"}
feed: {listen: "%s", tokens: [{name: replicas, sha256: "%x"}]}
store: {dir: data}
admin: {tokens: [{name: operator, sha256: "%x", roles: [operator]}]}
`, addrs[0], addrs[1], sha256.Sum256([]byte("replica")), sha256.Sum256([]byte("operator")))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(rescind, "control", "--config", config)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("the control endpoint ended with %v, and its log is\n%s", err, log.String())
		}
	})
	url := "http://" + addrs[0]
	eventually.Succeeds(t, "the control endpoint is ready", func() error {
		_, err := fetched(url + "/readyz")
		return err
	})
	return url
}

// fetched returns the body at a URL, or an error unless the status is 200.
func fetched(url string) ([]byte, error) {
	res, err := http.Get(url) //nolint:gosec // of the test's own server
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", url, res.StatusCode, body)
	}
	return body, err
}

// operatorOf returns a generated client that has the operator's token.
func operatorOf(t *testing.T, url string) *admin.ClientWithResponses {
	t.Helper()
	c, err := admin.NewClientWithResponses(url, admin.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer operator")
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A client that oapi-codegen made of the published description revokes by claims
// and by token, waits, restores, and reads a problem.
func TestGeneratedClient(t *testing.T) {
	url := startControl(t)
	c := operatorOf(t, url)
	t.Run("the description is the one that the client was made of", func(t *testing.T) { describesTheSame(t, url) })

	post := func(body admin.Request) *admin.RevokeResponse {
		t.Helper()
		all := admin.RevokeParamsWaitAll
		res, err := c.RevokeWithResponse(t.Context(), &admin.RevokeParams{Wait: &all}, body)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	var alice admin.TargetRequest_Claims_AdditionalProperties
	check(t, alice.FromTargetRequestClaims0("alice"))
	var byClaims, byToken, faulty admin.Request
	reason, left := "left", map[string]admin.TargetRequest_Claims_AdditionalProperties{"sub": alice}
	check(t, byClaims.FromTargetRequest(admin.TargetRequest{Issuer: issuer, Claims: &left, Reason: &reason}))
	check(t, faulty.FromTargetRequest(admin.TargetRequest{Issuer: issuer}))
	part := base64.RawURLEncoding.EncodeToString
	raw := part([]byte(`{"alg":"RS256"}`)) + "." + part(fmt.Appendf(nil, `{"iss":%q,"jti":"j1","exp":%d}`, issuer, time.Now().Add(time.Hour).Unix())) + "." + part([]byte("signature"))
	check(t, byToken.FromTokenRequest(admin.TokenRequest{Token: raw}))

	for name, body := range map[string]admin.Request{"map[sub:alice]": byClaims, "map[jti:j1]": byToken} {
		res := post(body)
		if res.JSON201 == nil {
			t.Fatalf("revoke %s: got %s %s, want 201", name, res.Status(), res.Body)
		}
		d, err := res.JSON201.AsDocument()
		if err != nil || d.Id == "" || d.Issuer != issuer || !d.Active || d.Replicas == nil || fmt.Sprint(*d.Claims) != name {
			t.Errorf("revoke %s: got %+v and error %v, want it in force, with the replicas", name, d, err)
		}
		undone, err := c.RestoreWriteWithResponse(t.Context(), &admin.RestoreWriteParams{Revision: d.Revision})
		if err != nil || undone.JSON200 == nil || undone.JSON200.Restored != 1 || undone.JSON200.Write != d.Id {
			t.Fatalf("restore the write of %s: got %+v and error %v, want one restored", d.Id, undone, err)
		}
		shown, err := c.ShowWithResponse(t.Context(), d.Id)
		if err != nil || shown.JSON200 == nil || shown.JSON200.Active {
			t.Errorf("show %s: got %+v and error %v, want it restored", d.Id, shown, err)
		}
	}
	res := post(faulty)
	if p := res.ApplicationproblemJSON422; p == nil || p.Detail == nil || p.Errors == nil || !strings.Contains(*p.Detail, "claims, kid, token and all") {
		t.Errorf("revoke nothing: got %s %s, want a problem that names the members", res.Status(), res.Body)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// describesTheSame compares the served description with admin/openapi.json. With
// RESCIND_UPDATE=1 it writes that file instead; go generate then makes the client
// again.
func describesTheSame(t *testing.T, url string) {
	const name = "admin/openapi.json"
	body, err := fetched(url + "/openapi.json")
	check(t, err)
	var served map[string]any
	check(t, json.Unmarshal(body, &served))
	served["info"].(map[string]any)["version"] = ""
	got, err := json.MarshalIndent(withoutTexts(served, false), "", " ")
	check(t, err)
	got = append(got, '\n')
	if os.Getenv("RESCIND_UPDATE") != "" {
		check(t, os.WriteFile(name, got, 0o644))
		return
	}
	want, err := os.ReadFile(name)
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("the description of the API differs from %s, want them equal: run RESCIND_UPDATE=1 go -C test/interop test -run GeneratedClient . && go -C test/interop generate ./admin", name)
	}
}

// withoutTexts returns a part of a description without the texts for people, so
// that a better wording needs no new client. names says that the members are named
// by the API.
func withoutTexts(v any, names bool) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if !names && (name == "description" || name == "summary" || name == "examples") {
				delete(v, name)
				continue
			}
			v[name] = withoutTexts(member, name == "properties" && !names)
		}
	case []any:
		for i := range v {
			v[i] = withoutTexts(v[i], false)
		}
	}
	return v
}
