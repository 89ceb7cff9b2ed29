package statuslist

import (
	"encoding/json"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	keys, _ := keysOf(t, "a")
	t.Cleanup(keys.Close)
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Keys = nil }, "no keys"},
		{func(o *Options) { o.URIs = nil }, "uris is empty"},
		{func(o *Options) { o.URIs = []string{"https://idp.example"} }, "has no path"},
		{func(o *Options) { o.URIs = []string{"http://idp.example/"} }, "not https"},
		{func(o *Options) { o.URIs = []string{"https://u@idp.example/"} }, "user"},
		{func(o *Options) { o.URIs = []string{"https://idp.example/%2e./"} }, "in its path"},
		{func(o *Options) { o.URIs = []string{"ftp://idp.example/"} }, "not an https URL"},
		{func(o *Options) { o.URIs, o.MaxLists = []string{"https://a/1", "https://a/2"}, 1 }, "max_lists"},
		{func(o *Options) { o.MaxAge = -1 }, "negative"},
		{func(o *Options) { o.MaxResponse = -1 }, "negative"},
		{func(o *Options) { o.MinRefresh = time.Hour }, "max_refresh_interval"},
		{func(o *Options) { o.MaxAge = time.Minute }, "max_age"},
	} {
		o := newProvider().options(keys)
		c.change(&o)
		if l, err := Open(o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v and error %v, want one with %q", l, err, c.want)
		}
	}
}

// FuzzAllows wants that a URI below a folder is fetched from the host of the folder
// and from a path within it, however a server cleans the path.
func FuzzAllows(f *testing.F) {
	for _, rest := range []string{"1", "a/b?c=d", "../x", "%2e%2e/x", "..;/x", `..\\x`, "#", "//evil.example/", "%2f..%2fx", "?../x", "@evil.example/", "\x00", "%", ".%2E"} {
		f.Add(folder + rest)
	}
	o := Options{URIs: []string{folder}}
	f.Fuzz(func(t *testing.T, uri string) {
		if !o.allows(uri) {
			return
		}
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "https" || u.Host != "idp.example" || u.User != nil || u.Fragment != "" || len(uri) > maxURI {
			t.Fatalf("%q is allowed: got %+v and error %v, want a URI of https://idp.example", uri, u, err)
		}
		for _, p := range []string{u.Path, u.EscapedPath(), strings.ReplaceAll(u.Path, `\`, "/")} {
			if clean := path.Clean(p) + "/"; !strings.HasPrefix(clean, "/lists/") {
				t.Errorf("%q is allowed, and its path is %q, want it below /lists/", uri, clean)
			}
		}
	})
}

func BenchmarkStatus(b *testing.B) {
	l := &Lists{o: Options{URIs: []string{folder}}}
	held := &list{bits: 1, statuses: make([]byte, 1<<17), until: time.Now().Add(time.Hour)}
	f := &followed{uri: first}
	f.current.Store(held)
	l.lists.Store(&map[string]*followed{first: f})
	claims := map[string]any{"status": map[string]any{"status_list": map[string]any{"idx": json.Number("77777"), "uri": first}}}
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ref, _, err := ReferenceOf(claims)
			if s, failed := l.Status(ref, now); err != nil || failed != nil || s != Valid {
				b.Fatalf("got %d and errors %v, %v, want 0", s, err, failed)
			}
		}
	})
}
