package testedge

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
)

// refusedPaths reach no upstream, because an upstream may read them as another path
// than the gateway.
var refusedPaths = []string{
	"/public/%2e%2e;/reports/x", "/public/.%2e;/reports/x", "/public/%2e%2e;a=b/reports/x", "/x/%2e%2e;/reports/x", "/public/%2e%2e;/orders/x",
	"/reports;/x", "/reports;a=b/x", "/;/reports/x", "/;a=b/reports/x", "/%2e;/reports/x", "/orders;/x",
	"/public/%2e%2e%3b/reports/x", "/public/..%3B/reports/x", "/reports%3b/x", "/%3b/reports/x", "/public/..%3b/x",
	"/public/..%253b/reports/x", "/public/..%253B/reports/x", "/public/..%252freports/x", "/public/..%252Freports%252fx", "/public/%252e%252e/reports/x",
	"/public/..%255creports/x", "/public/..%255Creports/x", "/public/..%25252freports/x", "/public/..%2525253b/reports/x",
	"/public/..%2freports/x", "/public/..%5creports/x", "/reports%2fx", "/public/..%00/reports/x",
}

// resolvedPaths are resolved by Envoy, so the upstream and the policy see the same path.
var resolvedPaths = []string{
	"/public/..;/reports/x", "/public/..;a=b;c/reports/x", "/.;/reports/x", "/x/..;/reports/x", "/public;/../reports/x", "/public/;/../reports/x", "/public/x;/../../reports/x",
	"/public/..;/orders/x", "/public/..;/x", `/public\..\reports\x`, `/public/..\reports/x`,
	"/public/../reports/x", "/public/%2e%2e/reports/x", "/public/.%2E/reports/x", "/./reports/x", "//reports/x", "/public//../reports/x", "/%72eports/x", "/report%73/x",
	"/reports/x", "/reports/", "/reports", "/reports/%2e/x", "/reports//x", "/public/..%09/reports/x", "/public/..%23/reports/x",
	"/Reports/x", "/REPORTS/x", "/rEPORTS/x?a=/public/", "/Public/../reports/x", "/PUBLIC/x", "/orders/x",
}

// ReadsPathsAsOne demands of a gateway with the routes of envoy.yaml that its upstream
// reads each path as the policy does, or does not get it. ask sends a path as it is
// written, and returns the status and the folder that the upstream read:
// reports, public, orders or root. plain is a token, and reader is one with the scope of the
// policy reports.
func ReadsPathsAsOne(t testing.TB, ask func(path, token string) (status int, folder string), plain, reader string) {
	t.Helper()
	for _, c := range []struct{ path, token, want string }{
		{"/public/x", "", "public"}, {"/public/x?a=1;b=2", "", "public"}, {"/orders/x", plain, "orders"}, {"/orders/x?a=1;b=2&c=%252f%3b", plain, "orders"},
		{"/reports/x", reader, "reports"}, {"/reports/x?a=1;b=2", reader, "reports"}, {"/reports/../public/x", "", "public"}, {"/%70ublic/x", "", "public"},
	} {
		if status, body := ask(c.path, c.token); status != http.StatusOK || body != c.want {
			t.Errorf("%s: %d %q, want 200 %q", c.path, status, body, c.want)
		}
	}

	for _, p := range slices.Concat(refusedPaths, resolvedPaths) {
		for name, token := range map[string]string{"no token": "", "a token without the scope": plain} {
			status, body := ask(p, token)
			if body == "reports" || token == "" && (body == "orders" || body == "root") {
				t.Errorf("%s with %s reached %q (%d), want it kept away", p, name, body, status)
			}
			if slices.Contains(refusedPaths, p) && status != http.StatusBadRequest && (token != "" || status != http.StatusUnauthorized) {
				t.Errorf("%s with %s: %d, want 400, or 401 without a token", p, name, status)
			}
		}
	}

	// A route that demands more than the default does so in any case of letters.
	for _, p := range []string{"/Reports/x", "/REPORTS/x", "/reports/X", "/rEPORTS", "/R%45PORTS/x"} {
		if status, _ := ask(p, plain); status != http.StatusForbidden {
			t.Errorf("%s with a token that lacks the scope: %d, want 403", p, status)
		}
	}
	if status, _ := ask("/PUBLIC/x", ""); status != http.StatusUnauthorized {
		t.Errorf("/PUBLIC/x without a token: %d, want 401, because public demands less than the default", status)
	}
}

// FolderRead returns the first folder of a path as the laxest servers read it. They
// drop path parameters (";x"), decode once more, take a backslash for a slash, and
// ignore the case of letters. The argument is decoded once already.
func FolderRead(decoded string) string {
	if again, err := url.PathUnescape(decoded); err == nil {
		decoded = again
	}
	segments := strings.Split(strings.ReplaceAll(strings.ToLower(decoded), `\`, "/"), "/")
	for i, segment := range segments {
		segments[i], _, _ = strings.Cut(segment, ";")
	}
	folder, _, below := strings.Cut(strings.TrimPrefix(path.Clean("/"+strings.Join(segments, "/")), "/"), "/")
	if !below && folder == "x" {
		return "root"
	}
	return folder
}
