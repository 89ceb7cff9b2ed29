package oauth

import (
	"errors"
	"net/http"
	"net/url"

	"rescind/revocation/intake"
)

// Form holds the parameters of a body. The query of the URL has no part in it.
type Form struct{ values url.Values }

// NotPost returns a fault for another method than POST.
func NotPost(r *http.Request) *Fault {
	if r.Method == http.MethodPost {
		return nil
	}
	return &Fault{Status: http.StatusMethodNotAllowed, Code: InvalidRequest, Description: "this path takes POST", Allow: http.MethodPost}
}

// ReadBody reads a body of this media type. It returns a fault for another type,
// and for a body that is too large.
func ReadBody(w http.ResponseWriter, r *http.Request, mediaType string) ([]byte, *Fault) {
	body, err := intake.ReadBody(w, r, mediaType)
	switch {
	case errors.Is(err, intake.ErrMediaType):
		return nil, Invalid("the Content-Type must be " + mediaType)
	case err != nil:
		return nil, &Fault{Status: intake.StatusOf(err), Code: InvalidRequest, Description: err.Error()}
	}
	return body, nil
}

// ReadForm reads the form of a POST.
func ReadForm(w http.ResponseWriter, r *http.Request) (Form, *Fault) {
	if fault := NotPost(r); fault != nil {
		return Form{}, fault
	}
	body, fault := ReadBody(w, r, "application/x-www-form-urlencoded")
	if fault != nil {
		return Form{}, fault
	}
	return ParseForm(string(body))
}

// ParseForm reads a body in the form of application/x-www-form-urlencoded.
func ParseForm(body string) (Form, *Fault) {
	values, err := url.ParseQuery(body)
	if err != nil {
		return Form{}, Invalid("the body is not a form: write it as name=value&name=value with percent-encoding")
	}
	return Form{values}, nil
}

// Value returns a parameter. It is empty if the parameter is absent or has no
// value, which is the same (RFC 6749, section 3.2). A repeated parameter is a
// fault.
func (f Form) Value(name string) (string, *Fault) {
	switch v := f.values[name]; len(v) {
	case 0:
		return "", nil
	case 1:
		return v[0], nil
	default:
		return "", Invalid("the parameter " + name + " is repeated; send it once")
	}
}

// Once returns a fault if any parameter is repeated.
func (f Form) Once() *Fault {
	for _, v := range f.values {
		if len(v) > 1 {
			return Invalid("a parameter is repeated; send each parameter once")
		}
	}
	return nil
}
