package node

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"minato.example/internal/rpc"
)

// What may be wrong with a call to the store or with its file. A storeError
// wraps one of them.
var (
	errNotFound   = errors.New("not found")
	errAmbiguous  = errors.New("ambiguous")
	errDuplicate  = errors.New("already there")
	errInvalid    = errors.New("invalid argument")
	errState      = errors.New("wrong state")
	errTooLarge   = errors.New("too large")
	errDiskFull   = errors.New("disk full")
	errDisk       = errors.New("disk error")
	errDamaged    = errors.New("store damaged")
	errForeign    = errors.New("not a store of this program")
	errNewerStore = errors.New("store of a newer version")
)

// storeError is an error of the store that a person may see.
type storeError struct {
	kind     error      // one of the above
	code     codes.Code // for the door
	reason   string     // machine-readable, e.g. REPORT_NOT_FOUND
	field    string     // of the request; empty when no field is at fault
	english  string
	japanese string
	cause    error // for the log; may be nil
}

// Error says in English what is wrong and what to do.
func (e *storeError) Error() string { return e.english }

// Japanese says the same in Japanese.
func (e *storeError) Japanese() string { return e.japanese }

// GRPCStatus is the answer at the local door.
func (e *storeError) GRPCStatus() *status.Status {
	return rpc.Refuse(e.code, e.reason, e.field, e.japanese, e.english).GRPCStatus()
}

// Unwrap gives the kind and the cause.
func (e *storeError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

func notFound(what string) error {
	return &storeError{
		kind: errNotFound, code: codes.NotFound, reason: "REPORT_NOT_FOUND", field: "report",
		english:  fmt.Sprintf("No report with id %s is on this node. Check the id with `minato inbox` or `minato outbox`.", shown(what)),
		japanese: fmt.Sprintf("ID %s の報告はこの端末にありません。`minato inbox` または `minato outbox` でIDを確認してください。", shown(what)),
	}
}

func ambiguous(prefix string) error {
	return &storeError{
		kind: errAmbiguous, code: codes.InvalidArgument, reason: "REPORT_AMBIGUOUS", field: "report",
		english:  fmt.Sprintf("More than one report id starts with %s. Give more digits of the id.", shown(prefix)),
		japanese: fmt.Sprintf("%s で始まるIDの報告が複数あります。IDの桁を増やして指定してください。", shown(prefix)),
	}
}

func invalidID(id string) error {
	return &storeError{
		kind: errInvalid, code: codes.InvalidArgument, reason: "REPORT_ID_INVALID", field: "report",
		english:  fmt.Sprintf("%s is not the id of a report. Give its 32 hexadecimal digits, or at least the first 6.", shown(id)),
		japanese: fmt.Sprintf("%s は報告のIDではありません。16進数32桁、または先頭の6桁以上を指定してください。", shown(id)),
	}
}

func invalidToken() error {
	return &storeError{
		kind: errInvalid, code: codes.InvalidArgument, reason: "PAGE_TOKEN_INVALID", field: "page_token",
		english:  "The page token is not one that this node gave. Start again from the first page.",
		japanese: "ページトークンがこの端末の発行したものではありません。最初のページからやり直してください。",
	}
}

func invalidLane() error {
	return &storeError{
		kind: errInvalid, code: codes.InvalidArgument, reason: "LANE_INVALID", field: "lane",
		english:  "The lane must be LIVE or EXERCISE. Say which of the two is meant.",
		japanese: "区分は実（LIVE）または訓練（EXERCISE）でなければなりません。どちらかを指定してください。",
	}
}

func mixedLanes() error {
	return &storeError{
		kind: errInvalid, code: codes.InvalidArgument, reason: "LANE_MISMATCH", field: "lane",
		english:  "The lane of the report differs from the lane it came by. It was not stored; tell the hub's operator.",
		japanese: "報告の区分（実・訓練）が届いた経路の区分と異なるため保存しませんでした。ハブの運用者に連絡してください。",
	}
}

func duplicate(reportID string) error {
	return &storeError{
		kind: errDuplicate, code: codes.AlreadyExists, reason: "REPORT_EXISTS", field: "report_id",
		english:  fmt.Sprintf("Report %s, or one with its number in the case, is in the outbox already. Look at it with `minato outbox`.", shown(reportID)),
		japanese: fmt.Sprintf("報告 %s 、または同じ事案の同じ報番号の報告はすでに送信箱にあります。`minato outbox` で確認してください。", shown(reportID)),
	}
}

func wrongState(reportID, english, japanese string) error {
	return &storeError{
		kind: errState, code: codes.FailedPrecondition, reason: "REPORT_STATE", field: "report",
		english:  fmt.Sprintf("Report %s %s. Look at it with `minato outbox`.", shown(reportID), english),
		japanese: fmt.Sprintf("報告 %s は%s。`minato outbox` で確認してください。", shown(reportID), japanese),
	}
}

func partTooLarge(name string, limit int64) error {
	return &storeError{
		kind: errTooLarge, code: codes.ResourceExhausted, reason: "PART_TOO_LARGE", field: "part",
		english:  fmt.Sprintf("The file %s is larger than the limit of %d bytes. Make it smaller or split it.", shown(name), limit),
		japanese: fmt.Sprintf("ファイル %s が上限（%d バイト）を超えています。小さくするか分割してください。", shown(name), limit),
	}
}

func partEmpty(name string) error {
	return &storeError{
		kind: errInvalid, code: codes.InvalidArgument, reason: "PART_EMPTY", field: "part",
		english:  fmt.Sprintf("The file %s is empty. Leave it out or attach the right file.", shown(name)),
		japanese: fmt.Sprintf("ファイル %s は空です。添付をやめるか、正しいファイルを添付してください。", shown(name)),
	}
}

func partNotFound() error {
	return &storeError{
		kind: errNotFound, code: codes.NotFound, reason: "PART_NOT_FOUND", field: "digest",
		english:  "A file that the report names is not on this node. Add it before the report.",
		japanese: "報告が示すファイルがこの端末にありません。報告より先にファイルを追加してください。",
	}
}

func invalidQuery() error {
	return &storeError{
		kind: errInvalid, code: codes.InvalidArgument, reason: "QUERY_TOO_LONG", field: "query",
		english:  fmt.Sprintf("The search is too long. Use at most %d words and %d characters.", maxQueryWords, maxQueryRunes),
		japanese: fmt.Sprintf("検索語が長すぎます。%d 語、%d 文字以内にしてください。", maxQueryWords, maxQueryRunes),
	}
}

func damaged(path string, cause error) error {
	return &storeError{
		kind: errDamaged, code: codes.DataLoss, reason: "STORE_DAMAGED",
		english:  fmt.Sprintf("The node's store %s is damaged. Nothing was changed. Stop the node, keep a copy of the file, and put back a backup.", path),
		japanese: fmt.Sprintf("端末の保存ファイル %s が壊れています。変更は加えていません。ノードを停止し、ファイルの写しを取ってから、バックアップを戻してください。", path),
		cause:    cause,
	}
}

func foreignFile(path string, cause error) error {
	return &storeError{
		kind: errForeign, code: codes.FailedPrecondition, reason: "STORE_FOREIGN",
		english:  fmt.Sprintf("The file %s is not a node's store, or its beginning is damaged. Nothing was changed. Move it away if it is something else, or put back a backup.", path),
		japanese: fmt.Sprintf("ファイル %s はノードの保存ファイルではないか、先頭が壊れています。変更は加えていません。別のファイルであれば移動し、そうでなければバックアップを戻してください。", path),
		cause:    cause,
	}
}

func newerStore(path string, have uint32, known int) error {
	return &storeError{
		kind: errNewerStore, code: codes.FailedPrecondition, reason: "STORE_NEWER",
		english:  fmt.Sprintf("The store %s was written by a newer minato (format %d, this one knows %d). Install the newer version again.", path, have, known),
		japanese: fmt.Sprintf("保存ファイル %s は新しい版の minato で書かれています（形式 %d、この版が扱えるのは %d まで）。新しい版を入れ直してください。", path, have, known),
	}
}

// failed turns what SQLite says about the file into an error for people. Other
// errors pass as they are.
func (s *store) failed(err error) error {
	var known *storeError
	var lite *sqlite.Error
	if err == nil || errors.As(err, &known) || !errors.As(err, &lite) {
		return err
	}
	switch lite.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return &storeError{
			kind: errDiskFull, code: codes.Internal, reason: "STORE_FULL",
			english:  fmt.Sprintf("The disk of the node's store %s is full. Nothing was stored and nothing is lost; make room and try again.", s.path),
			japanese: fmt.Sprintf("端末の保存ファイル %s のディスクに空きがありません。今回の操作は保存されず、保存済みのものは失われていません。空きを作ってやり直してください。", s.path),
			cause:    err,
		}
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return damaged(s.path, err)
	case sqlite3.SQLITE_ERROR:
		// The schema is ours: where SQLite cannot read it any more, its text has
		// been changed.
		for _, sign := range []string{"unrecognized option", "unrecognized token", "malformed", "no such table", "no such column", "no such module", "error in", "syntax error", "vtable constructor failed"} {
			if strings.Contains(err.Error(), sign) && !strings.Contains(err.Error(), "fts5: syntax error") {
				return damaged(s.path, err)
			}
		}
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY:
		return &storeError{
			kind: errDisk, code: codes.Internal, reason: "STORE_UNUSABLE",
			english:  fmt.Sprintf("The node's store %s could not be read or written. Check the disk, the file's owner and mode, and that no other program has it open.", s.path),
			japanese: fmt.Sprintf("端末の保存ファイル %s を読み書きできません。ディスク、ファイルの所有者と権限、他のプログラムが開いていないかを確認してください。", s.path),
			cause:    err,
		}
	}
	return err
}

// shown cuts what a caller gave so that a message stays short and plain.
func shown(s string) string {
	const most = 40
	runes := []rune(s)
	if len(runes) > most {
		runes = append(runes[:most:most], '…')
	}
	return fmt.Sprintf("%q", string(runes))
}
