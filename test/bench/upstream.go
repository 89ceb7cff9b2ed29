package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
)

// upstream is the helper behind the gateway. It answers 200 to every request, for less
// processor time than a server of net/http, so that the machine belongs to the servers
// that are measured.
const upstream = "upstream"

// answerAll runs the upstream, and prints its address.
func answerAll(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = c.Close() }()
			_ = answerOn(c) // the gateway has closed the connection
		}()
	}
}

// answerOn answers requests without a body until the connection ends.
func answerOn(c net.Conn) error {
	answer := []byte("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n")
	for in := bufio.NewReaderSize(c, 16<<10); ; {
		for length := 3; length > 2; { // until the empty line behind the headers
			line, err := in.ReadSlice('\n')
			if err != nil {
				return err
			}
			length = len(line)
		}
		if _, err := c.Write(answer); err != nil {
			return err
		}
	}
}
