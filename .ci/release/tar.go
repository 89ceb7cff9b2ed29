package main

import (
	"archive/tar"
	"io"
	"os"
	"strings"
	"time"
)

// file is an entry of an archive: a folder if the name ends in a slash.
type file struct {
	name  string
	mode  int64
	owner int    // of the user and the group
	from  string // the path of the content; empty: text is the content
	text  []byte
}

// writeTar writes an archive. All its entries have the same time, and their order
// is the order of files.
func writeTar(w io.Writer, at time.Time, files []file) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		if err := f.write(t, at); err != nil {
			return err
		}
	}
	return t.Close()
}

func (f *file) write(t *tar.Writer, at time.Time) (err error) {
	header := &tar.Header{Name: f.name, Mode: f.mode, Uid: f.owner, Gid: f.owner, ModTime: at, Typeflag: tar.TypeReg, Size: int64(len(f.text)), Format: tar.FormatPAX}
	if strings.HasSuffix(f.name, "/") {
		header.Typeflag = tar.TypeDir
	}
	if f.from == "" {
		if err := t.WriteHeader(header); err != nil {
			return err
		}
		_, err := t.Write(f.text)
		return err
	}
	content, err := os.Open(f.from)
	if err != nil {
		return err
	}
	defer content.Close()
	info, err := content.Stat()
	if err != nil {
		return err
	}
	header.Size = info.Size()
	if err := t.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(t, content)
	return err
}
