package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"rescind/revocation/printable"
)

// moduleFile is the module for Envoy in the image and in the packages.
const moduleFile = "/usr/lib/rescind/librescind.so"

// maxModule bounds the file that envoy-module copies.
const maxModule = 16 << 20

func (a *app) envoyModule() *cobra.Command {
	from := moduleFile
	cmd := &cobra.Command{
		Use:   "envoy-module DIR",
		Short: "Copy the module for Envoy into a folder",
		Long: `Copies librescind.so into a folder that Envoy reads. It is for the first container of
a pod: the image has the module, and Envoy has an image of its own. The folder is a
volume that both mount, and ENVOY_DYNAMIC_MODULES_SEARCH_PATH of Envoy names it. An
image volume of Kubernetes does not do, because programs in it may not be run.`,
		Example: "  rescind envoy-module /module",
		Args:    exactly("the folder"),
		RunE: func(_ *cobra.Command, args []string) error {
			to := filepath.Join(args[0], filepath.Base(moduleFile))
			if err := copyModule(from, to); err != nil {
				return err
			}
			_, err := fmt.Fprintln(a.out, printable.Quote(to))
			return err
		},
	}
	cmd.Flags().StringVar(&from, "module-file", from, "the `file` to copy")
	return cmd
}

// copyModule replaces a file as a whole, so that no Envoy loads half of it.
func copyModule(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return &failure{
			status: statusFailed, message: "the module cannot be read: " + err.Error(), cause: err,
			hint: "the image and the packages of rescind have it; --module-file names another one, such as that of make -C envoy/module",
		}
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxModule+1))
	if err != nil {
		return fmt.Errorf("the module cannot be read: %w", err)
	}
	if len(text) > maxModule || len(text) < 4 || string(text[:4]) != "\x7fELF" {
		return usage("%s is not the module for Envoy: it must be a shared library of at most 16 MiB", printable.Quote(from))
	}
	if err := replaceFile(to, text); err != nil {
		return fmt.Errorf("the module cannot be written: %w", err)
	}
	return nil
}

// replaceFile replaces a file by one that every user may read, because any user may
// run Envoy.
func replaceFile(to string, text []byte) error {
	f, err := renameio.NewPendingFile(to, renameio.WithStaticPermissions(0o644))
	if err != nil {
		return err
	}
	defer f.Cleanup() //nolint:errcheck // without effect once the file is replaced
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}
