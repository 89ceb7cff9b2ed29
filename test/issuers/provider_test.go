package issuers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rescind/test/eventually"
	"rescind/test/freeport"
)

const providerVersion = "9.13.3" // as package.json has it

// provider is an oidc-provider on loopback with the client web.
type provider struct{ url string }

// startProvider runs an oidc-provider until the test ends. The client web gets its
// back-channel logouts at logout.
func startProvider(t *testing.T, logout string) *provider {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir, err := fetchProvider(ctx)
	must(t, err)
	addr := freeport.Addrs(t, 1)[0]
	_, port, _ := strings.Cut(addr, ":")
	env := append(os.Environ(), "ISSUER_PORT="+port, "CLIENT="+webClient, "CLIENT_SECRET="+secret, "LOGOUT_URL="+logout)
	launch(t, filepath.Join(t.TempDir(), "oidc-provider.log"), env, "node", filepath.Join(dir, "provider.mjs"))
	p := &provider{url: "http://" + addr}
	eventually.True(t, "oidc-provider answers", func() bool {
		res, err := http.Get(p.url + "/jwks")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return p
}

// fetchProvider returns a folder with provider.mjs and the pinned oidc-provider.
// The first call fetches it with npm, which checks the sums of package-lock.json.
func fetchProvider(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "rescind", "oidc-provider-"+providerVersion)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	for _, name := range []string{"package.json", "package-lock.json", "provider.mjs"} {
		text, err := os.ReadFile(filepath.Join("testdata", "oidc-provider", name))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return "", err
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "node_modules", "oidc-provider", "package.json")); err == nil {
		var installed struct{ Version string }
		if err := json.Unmarshal(text, &installed); err == nil && installed.Version == providerVersion {
			return dir, nil
		}
	}
	install := exec.CommandContext(ctx, "npm", "ci", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm cannot install oidc-provider %s: %w: %s", providerVersion, err, out)
	}
	return dir, nil
}

// browser is a user's browser with the cookies of the issuer.
type browser struct {
	client  *http.Client
	idToken string
}

// login logs a user in with the authorization code flow, and returns the access
// token.
func (p *provider) login(name string) (*browser, string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, "", err
	}
	b := &browser{client: &http.Client{Jar: jar}}
	const callback = "http://127.0.0.1/callback"
	var back *url.URL
	b.client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) > 10 {
			return fmt.Errorf("the login of %s is redirected without end, now to %s", name, req.URL)
		}
		if strings.HasPrefix(req.URL.String(), callback) {
			back = req.URL
			return http.ErrUseLastResponse
		}
		return nil
	}
	query := url.Values{"client_id": {webClient}, "response_type": {"code"}, "scope": {"openid read"}, "redirect_uri": {callback}, "login_hint": {name}, "resource": {"urn:api"}}
	page, err := b.page(http.MethodGet, p.url+"/auth?"+query.Encode(), nil)
	if err != nil {
		return nil, "", err
	}
	if back == nil || back.Query().Get("code") == "" {
		return nil, "", fmt.Errorf("the login of %s ends at %v without a code: %.300s", name, back, page)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {callback}, "client_id": {webClient}, "client_secret": {secret}}
	page, err = b.page(http.MethodPost, p.url+"/token", form)
	if err != nil {
		return nil, "", err
	}
	var granted struct {
		Access string `json:"access_token"`
		ID     string `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(page), &granted); err != nil || granted.Access == "" {
		return nil, "", fmt.Errorf("the token endpoint answers %.300s: %w", page, err)
	}
	b.idToken = granted.ID
	return b, granted.Access, nil
}

var xsrf = regexp.MustCompile(`name="xsrf" value="([^"]+)"`)

// logout ends the user's session at the issuer, as the user confirms it.
func (p *provider) logout(b *browser) error {
	page, err := b.page(http.MethodGet, p.url+"/session/end?id_token_hint="+url.QueryEscape(b.idToken), nil)
	if err != nil {
		return err
	}
	found := xsrf.FindStringSubmatch(page)
	if found == nil {
		return fmt.Errorf("the page of the logout has no form: %.300s", page)
	}
	_, err = b.page(http.MethodPost, p.url+"/session/end/confirm", url.Values{"xsrf": {found[1]}, "logout": {"yes"}})
	return err
}

// page returns the body of an answer. A status from 400 on is an error.
func (b *browser) page(method, address string, form url.Values) (string, error) {
	req, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := b.client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 400 {
		err = fmt.Errorf("%s %s: got %s %.300s", method, address, res.Status, body)
	}
	return string(body), err
}
