package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"charm.land/lipgloss/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// terminal is what a command sees of the world around it.
type terminal struct {
	in                    io.Reader
	out, err              io.Writer
	inTTY, outTTY, errTTY bool
	width                 int // columns of stdout, 0 when it is not a terminal
	env                   func(string) string
}

// app is one run of the program.
type app struct {
	terminal
	lang language

	// Flags that every command has.
	langFlag string
	json     bool
	quiet    bool
	noInput  bool
	node     string
}

// newApp reads the language before anything else, since help and the errors of
// the flags themselves are written in it.
func newApp(t terminal, args []string) *app {
	a := &app{terminal: t, lang: japanese, langFlag: t.env("MINATO_LANG")}
	want := a.langFlag
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if value, ok := strings.CutPrefix(arg, "--lang="); ok {
			want = value
		} else if arg == "--lang" && i+1 < len(args) {
			want = args[i+1]
		}
	}
	if want == string(english) {
		a.lang = english
	}
	return a
}

// checkLang refuses a language that there is no text in.
func (a *app) checkLang() error {
	switch a.langFlag {
	case "", string(japanese), string(english):
		return nil
	}
	return usage(
		textf("--lang (MINATO_LANG) の値 %q は使えません", "--lang (MINATO_LANG) cannot be %q", a.langFlag),
		Text{"--lang ja または --lang en と指定してください", "type --lang ja or --lang en"})
}

// t is a text in the language of this run.
func (a *app) t(ja, en string) string { return Text{ja, en}.in(a.lang) }

// talk tells a person something on stderr; -q silences it.
func (a *app) talk(t Text) {
	if !a.quiet {
		fmt.Fprintln(a.err, t.in(a.lang))
	}
}

// say writes a line of the result for people on stdout. Colours are lowered to
// what the terminal can show, and removed for files, pipes and NO_COLOR.
func (a *app) say(line string) error {
	_, err := lipgloss.Fprintln(a.out, line)
	return err
}

// sayText is say in the language of this run.
func (a *app) sayText(t Text) error { return a.say(t.in(a.lang)) }

// interactive says whether a person can be asked.
func (a *app) interactive() bool { return a.inTTY && a.errTTY && !a.noInput && !a.json }

// emit writes one JSON object with the names of protojson; fields without a
// value are left out.
func (a *app) emit(m proto.Message) error { return a.emitWith(protojson.MarshalOptions{}, m) }

// emitFull is emit with every field, so that a script always finds its keys.
func (a *app) emitFull(m proto.Message) error {
	return a.emitWith(protojson.MarshalOptions{EmitUnpopulated: true}, m)
}

// emitInbox writes one item of the inbox: names as in the proto, every field.
func (a *app) emitInbox(m proto.Message) error {
	return a.emitWith(protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}, m)
}

func (a *app) emitWith(o protojson.MarshalOptions, m proto.Message) error {
	raw, err := o.Marshal(m)
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return a.emitRaw(raw)
}

// emitValue writes one JSON object that is no message of the contract.
func (a *app) emitValue(v any) error {
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return a.emitRaw(raw.Bytes())
}

// emitRaw writes one object on one line. protojson varies its white space on
// purpose; compacting makes the line stable. Characters that could steer a
// terminal are written as \u escapes, which mean the same to a program.
func (a *app) emitRaw(raw []byte) error {
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	_, err := fmt.Fprintln(a.out, escapeUnsafe(line.String(), jsonEscape))
	return err
}
