package statuslist

import (
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
