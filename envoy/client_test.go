package envoy

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"

	"rescind/authz"
	"rescind/test/testcert"
)

func TestCheckOverTLS(t *testing.T) {
	servers, clients := testcert.NewAuthority(t, "servers"), testcert.NewAuthority(t, "clients")
	serverCertificate, serverPool := servers.Issue(t, "server"), servers.Pool()
	clientCertificate, clientPool := clients.Issue(t, "client"), clients.Pool()
	stranger := testcert.NewAuthority(t, "strangers").Issue(t, "stranger")
	k := newKey(t)
	s, _ := server(t, k, options{TLS: &tls.Config{Certificates: []tls.Certificate{serverCertificate}, ClientCAs: clientPool, ClientAuth: tls.RequireAndVerifyClientCert}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	for _, c := range []struct {
		name   string
		config *tls.Config
		ok     bool
	}{
		{"with the right certificate", &tls.Config{RootCAs: serverPool, Certificates: []tls.Certificate{clientCertificate}}, true},
		{"with another certificate", &tls.Config{RootCAs: serverPool, Certificates: []tls.Certificate{stranger}}, false},
		{"without a certificate", &tls.Config{RootCAs: serverPool}, false},
		{"not trusting the server", &tls.Config{Certificates: []tls.Certificate{clientCertificate}}, false},
		{"in plaintext", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			o, err := Check(ctx, l.Addr().String(), c.config, Question{Token: k.token(nil)})
			if (err == nil) != c.ok {
				t.Fatalf("%+v, %v, want an answer: %t", o, err, c.ok)
			}
			if c.ok && (!o.Allowed || o.Reason() != "ok") {
				t.Errorf("%+v, want allowed with reason ok", o)
			}
		})
	}
}

func TestOutcomes(t *testing.T) {
	k := newKey(t)
	s, _ := server(t, k, options{})
	addr := serving(t, s)
	public := "public"
	for _, c := range []struct {
		name     string
		question Question
		allowed  bool
		status   int
		reason   string
	}{
		{"a good token", Question{Token: k.token(nil)}, true, 0, "ok"},
		{"a bad one", Question{Token: "x"}, false, 401, "malformed"},
		{"none", Question{}, false, 401, "no_token"},
		{"none, where it is optional", Question{Policy: &public}, true, 0, "no_token_allowed"},
		{"a spoofed header", Question{Token: k.token(nil), Headers: []authz.Header{{Name: "x-jwt-admin", Value: "1"}}}, true, 0, "ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := Check(t.Context(), addr, nil, c.question)
			if err != nil {
				t.Fatal(err)
			}
			if o.Allowed != c.allowed || o.Status != c.status || o.Reason() != c.reason || len(o.Headers) == 0 != (c.reason == "no_token_allowed") || (o.Body == "") != c.allowed || (len(o.Removed) > 0) != c.allowed {
				t.Errorf("%+v, want allowed %t, status %d, reason %s, and headers and body to match", o, c.allowed, c.status, c.reason)
			}
		})
	}
}

// Envoy decides by the code of an answer alone, and so does outcome.
func TestOutcomeOfTheCodeAlone(t *testing.T) {
	denied := &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{}}
	ok := &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}
	for _, c := range []struct {
		answer *authv3.CheckResponse
		want   bool
	}{
		{&authv3.CheckResponse{}, true},
		{&authv3.CheckResponse{HttpResponse: denied}, true},
		{&authv3.CheckResponse{Status: &status.Status{Code: 16}, HttpResponse: ok}, false},
	} {
		if o := outcome(c.answer); o.Allowed != c.want {
			t.Errorf("%v: %+v, want allowed %t", c.answer, o, c.want)
		}
	}
}
