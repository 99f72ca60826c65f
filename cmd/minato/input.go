package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"
)

const (
	textLimit   = 256 << 10 // bytes of a summary
	reportLimit = 2 << 20   // bytes of a report as JSON
)

// readInput reads a file that a flag names, or stdin for "-".
func (a *app) readInput(flag, path string, limit int64) ([]byte, error) {
	in := a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, unreadable(flag, path, err)
		}
		defer f.Close()
		in = f
	} else if a.inTTY {
		a.talk(Text{"入力してください。終わりは行頭で Ctrl-D です。", "type the text and end it with Ctrl-D at the start of a line"})
	}
	raw, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, unreadable(flag, path, err)
	}
	if int64(len(raw)) > limit {
		return nil, usage(
			textf("--%s %s は %d バイトを超えています", "--%s %s is longer than %d bytes", flag, plain(path), limit),
			Text{"短くするか、--attach で添付してください", "shorten it or send it with --attach"})
	}
	return raw, nil
}

// readText reads a text that a flag names. It must be UTF-8: guessing an encoding would
// garble a report without anybody noticing.
func (a *app) readText(flag, path string) (string, error) {
	raw, err := a.readInput(flag, path, textLimit)
	if err != nil {
		return "", err
	}
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(raw) || bytes.IndexByte(raw, 0) >= 0 {
		return "", usage(
			textf("--%s %s は UTF-8 の文書ではありません", "--%s %s is not UTF-8 text", flag, plain(path)),
			Text{"UTF-8 で保存し直すか、変換してください。例: iconv -f CP932 -t UTF-8 memo.txt | minato report … --text -",
				"save it as UTF-8 or convert it: iconv -f CP932 -t UTF-8 memo.txt | minato report ... --text -"})
	}
	text := strings.TrimSpace(strings.ReplaceAll(string(raw), "\r\n", "\n"))
	if text == "" {
		return "", usage(textf("--%s %s は空です", "--%s %s is empty", flag, plain(path)), Text{"一文でかまいません", "one sentence is enough"})
	}
	return text, nil
}

// unreadable says why a file that a flag names cannot be read.
func unreadable(flag, path string, err error) error {
	why := Text{err.Error(), err.Error()}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		why = Text{"ファイルがありません", "there is no such file"}
	case errors.Is(err, fs.ErrPermission):
		why = Text{"読む権限がありません", "you may not read it"}
	}
	return &failure{code: exitUsage, err: fmt.Errorf("read %s: %w", path, err),
		what: textf("--%s %s を読めません: %s", "cannot read --%s %s: %s", flag, plain(path), why),
		next: Text{"ファイル名を確かめてください", "check the name of the file"}}
}
