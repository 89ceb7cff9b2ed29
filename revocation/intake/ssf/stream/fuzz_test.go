package stream

import "testing"

// FuzzPollAnswer holds that reading an answer to a poll does not panic, and that
// an answer with duplicate names is refused.
func FuzzPollAnswer(f *testing.F) {
	f.Add([]byte(`{"sets":{"4d3559ec67504aaba65d40b0363faad8":"eyJhbGciOiJub25lIn0.e30."},"moreAvailable":true}`))
	f.Add([]byte(`{"sets":{}}`))
	f.Add([]byte(`{"sets":{"a":"1","a":"2"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a := &Answer{}
		if err := decode(text, a); err != nil {
			return
		}
		again := &Answer{}
		if err := decode([]byte(`{"sets":{"a":"1"},`+string(text[1:])), again); len(text) > 2 && text[0] == '{' && a.Tokens != nil && err == nil {
			t.Errorf("%q: got no error for a second sets, want one", text)
		}
	})
}

// FuzzStream holds that reading the configuration of a stream does not panic.
func FuzzStream(f *testing.F) {
	f.Add([]byte(`{"stream_id":"s","iss":"i","aud":["a"],"delivery":{"method":"urn:ietf:rfc:8936","endpoint_url":"https://x"}}`))
	f.Add([]byte(`{"stream_id":"s","aud":"a"}`))
	f.Fuzz(func(_ *testing.T, text []byte) { _ = decode(text, &Stream{}) })
}
