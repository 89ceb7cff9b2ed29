package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Bounds of one request to the API, with room to spare in bytes.
const (
	maxPartLines = 100_000
	maxPartBytes = 48 << 20
	maxLine      = 64 << 10
)

// errLine says that a line cannot be read, or is too long to send.
var errLine = errors.New("the file cannot be read on")

// partReader cuts a file of lines into parts, which are the bodies of requests. It
// leaves out blank lines.
type partReader struct {
	in    *bufio.Reader
	lines int // read so far
	read  int64

	body    []byte // of the part
	numbers []int  // the line of the file for each line of the part
	held    []byte // first line of the next part
	at      int    // number of that line; 0: there is none

	maxLines, maxBytes int
}

func newPartReader(in io.Reader) *partReader {
	return &partReader{in: bufio.NewReaderSize(in, maxLine+2), maxLines: maxPartLines, maxBytes: maxPartBytes}
}

// skip passes over n lines.
func (p *partReader) skip(n int) error {
	for range n {
		switch _, err := p.line(); {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: it has only %d lines", errLine, p.lines)
		case err != nil:
			return err
		}
	}
	return nil
}

// next reads the next part. It returns false if there is none.
func (p *partReader) next() (bool, error) {
	p.body, p.numbers = p.body[:0], p.numbers[:0]
	if p.at > 0 {
		p.add(p.held, p.at)
		p.at = 0
	}
	for {
		line, err := p.line()
		switch {
		case errors.Is(err, io.EOF):
			return len(p.numbers) > 0, nil
		case err != nil:
			return false, err
		case len(line) == 0:
			continue
		case len(p.numbers) == p.maxLines, len(p.numbers) > 0 && len(p.body)+len(line)+1 > p.maxBytes:
			p.held, p.at = append(p.held[:0], line...), p.lines
			return true, nil
		}
		p.add(line, p.lines)
	}
}

// last reports whether no part follows this one.
func (p *partReader) last() bool { return p.at == 0 }

func (p *partReader) add(line []byte, number int) {
	p.body = append(append(p.body, line...), '\n')
	p.numbers = append(p.numbers, number)
}

// line returns the next line without the space around it, valid until the next
// call.
func (p *partReader) line() ([]byte, error) {
	line, err := p.in.ReadSlice('\n')
	p.read += int64(len(line))
	switch {
	case errors.Is(err, io.EOF) && len(line) == 0:
		return nil, io.EOF
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, tooLong(p.lines + 1)
	case err != nil && !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: after line %d: %w", errLine, p.lines, err)
	}
	if line = bytes.TrimSpace(line); len(line) > maxLine {
		return nil, tooLong(p.lines + 1)
	}
	p.lines++
	return line, nil
}

func tooLong(line int) error {
	return fmt.Errorf("%w: line %d is longer than %d bytes", errLine, line, maxLine)
}

// endOfLine returns where the line with this number, from 1, ends in body.
func endOfLine(body []byte, number int) (at int) {
	for range number {
		at += bytes.IndexByte(body[at:], '\n') + 1
	}
	return at
}
