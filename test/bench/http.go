package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// httpConn is an HTTP/1.1 connection with one request at a time. It writes requests
// that are encoded already, and reads of an answer its status and its length alone,
// because a client of net/http costs more than the servers that are measured.
type httpConn struct {
	net.Conn
	in *bufio.Reader
}

func dialHTTP(ctx context.Context, addr string) (*httpConn, error) {
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &httpConn{plain, bufio.NewReaderSize(plain, 8<<10)}, nil
}

// do sends a request, and returns the status of its answer.
func (c *httpConn) do(request []byte) (status int, err error) {
	if _, err := c.Write(request); err != nil {
		return 0, err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 {
		return 0, fmt.Errorf("the answer begins with %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, err
	}
	length := 0
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
	}
	_, err = io.CopyN(io.Discard, c.in, int64(length))
	return status, err
}

// run sends requests one after the other until end, and one at least. It returns how
// long each took.
func (c *httpConn) run(end time.Time, request func() []byte) (r result, err error) {
	for begun := time.Now(); len(r.took) == 0 || begun.Before(end); {
		status, err := c.do(request())
		if err != nil {
			return r, err
		}
		now := time.Now()
		if r.took = append(r.took, now.Sub(begun)); status == 200 {
			r.allowed++
		}
		begun = now
	}
	return r, nil
}

// browserHeaders are those of a request of a browser.
var browserHeaders = map[string]string{
	"user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
	"accept":     "application/json, text/plain, */*", "accept-language": "en-GB,en;q=0.9", "accept-encoding": "gzip, deflate, br",
	"referer": "https://app.example.com/orders", "cookie": strings.Repeat("a=b; ", 20),
}

// browserRequest returns the request of a browser on HTTP/1.1.
func browserRequest(token string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("GET /orders/1234?page=2 HTTP/1.1\r\nhost: app.example.com\r\n")
	for name, value := range browserHeaders {
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	fmt.Fprintf(&b, "authorization: Bearer %s\r\n\r\n", token)
	return b.Bytes(), nil
}
