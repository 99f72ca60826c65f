// Package config reads the TOML files of the daemons. It is strict: a key that
// nobody knows is an error that shows its line, so that a misspelt setting
// never passes for one that is in force.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"
)

// Read decodes the file into a struct and returns the file's directory as an
// absolute path. fill sets defaults and checks what was read.
func Read(path string, into any, fill func() error) (dir string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", &Error{Path: path, Err: err}
	}
	defer f.Close()
	if err := toml.NewDecoder(f).DisallowUnknownFields().Decode(into); err != nil {
		return "", &Error{Path: path, Err: explain(err)}
	}
	if err := fill(); err != nil {
		return "", &Error{Path: path, Err: err}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", &Error{Path: path, Err: err}
	}
	return filepath.Dir(abs), nil
}

// explain makes the decoder's error point at the line.
func explain(err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		return fmt.Errorf("unknown key:\n%s", strict.String())
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		return fmt.Errorf("\n%s", decode.String())
	}
	return err
}

// Error is a configuration that cannot be used.
type Error struct {
	Path string
	Err  error
}

func (e *Error) Error() string {
	return fmt.Sprintf("configuration %s cannot be used. Mend this: %v", e.Path, e.Err)
}

// Japanese is the message for people.
func (e *Error) Japanese() string {
	return fmt.Sprintf("設定 %s を使えません。次の箇所を直してください: %v", e.Path, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }
