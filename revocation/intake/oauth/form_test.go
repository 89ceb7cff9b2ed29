package oauth

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzForm holds for every body: a form that is read names each parameter as
// url.Values does, a parameter has one value or is a fault, and no parameter is
// found that the body does not have.
func FuzzForm(f *testing.F) {
	for _, body := range []string{"", "token=a", "token=a&token=b", "token=%zz", "token=a;b=c", "token", "=a", "&&", "token=%00", "t%6fken=a", "token=a+b"} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		form, fault := ParseForm(body)
		if fault != nil {
			if fault.Status != 400 || fault.Code != InvalidRequest {
				t.Fatalf("%q: got the fault %+v, want 400 invalid_request", body, fault)
			}
			return
		}
		want, err := url.ParseQuery(body)
		if err != nil {
			t.Fatalf("%q: got a form, want a fault because of %v", body, err)
		}
		repeated := false
		for name, values := range want {
			v, fault := form.Value(name)
			if repeated = repeated || len(values) > 1; (fault != nil) != (len(values) > 1) || fault == nil && v != values[0] {
				t.Fatalf("%q: the parameter %q: got %q and the fault %v, want one of %q alone", body, name, v, fault, values)
			}
		}
		if (form.Once() != nil) != repeated {
			t.Fatalf("%q: got the fault %v, want one exactly if a parameter is repeated", body, form.Once())
		}
		if v, fault := form.Value("token"); v != "" && (fault != nil || !strings.Contains(body, "=")) {
			t.Fatalf("%q: got the token %q, want none", body, v)
		}
	})
}
