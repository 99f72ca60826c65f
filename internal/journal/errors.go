package journal

import (
	"errors"
	"fmt"
)

// Kinds of error; test with errors.Is.
var (
	ErrExists   = errors.New("journal: there is something already")
	ErrMissing  = errors.New("journal: there is none")
	ErrKey      = errors.New("journal: wrong key")
	ErrDamaged  = errors.New("journal: damaged")
	ErrInUse    = errors.New("journal: used by another process")
	ErrFull     = errors.New("journal: full")
	ErrBroken   = errors.New("journal: disk failed")
	ErrTooLarge = errors.New("journal: record too large")
	ErrNotFound = errors.New("journal: no such record")
	ErrClosed   = errors.New("journal: closed")
	ErrListen   = errors.New("journal: cannot listen")
	// ErrUnknown: no answer came, so the record may or may not have been
	// written. Append it again with the same key: *ExistsError then says that
	// it was.
	ErrUnknown = errors.New("journal: no answer, the record may have been written")
)

// Fault is an error that a person may have to act on.
type Fault struct {
	Kind                  error // one of the kinds above
	English, JapaneseText string
	Err                   error // the cause; may be nil
}

func (f *Fault) Error() string {
	if f.Err == nil {
		return f.English
	}
	return f.English + ": " + f.Err.Error()
}

// Japanese says the same for people.
func (f *Fault) Japanese() string { return f.JapaneseText }

// Unwrap gives the kind and the cause.
func (f *Fault) Unwrap() []error {
	if f.Err == nil {
		return []error{f.Kind}
	}
	return []error{f.Kind, f.Err}
}

// ExistsError says that the key was written before.
type ExistsError struct {
	Stream Stream
	Seq    uint64 // of the record that is there
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("journal: %s has this key already, at %d", e.Stream, e.Seq)
}

func full(err error) error {
	return &Fault{
		Kind:         ErrFull,
		English:      "the journal has reached its capacity and takes no new records; what it holds stays readable. Give it a larger volume",
		JapaneseText: "記録の容量が上限に達したため、新しい記録を受け付けられません（保存済みの記録は読めます）。容量を増やしてください",
		Err:          err,
	}
}

func damaged(english, japanese string, err error) error {
	return &Fault{
		Kind:         ErrDamaged,
		English:      "the journal is damaged: " + english + ". Do not create a new one over it; check the disk and restore a backup",
		JapaneseText: "記録が壊れています：" + japanese + "。上書きで作り直さず、ディスクを確認し、バックアップから復元してください",
		Err:          err,
	}
}

func broken(err error) error {
	return &Fault{
		Kind:         ErrBroken,
		English:      "the disk of the journal failed; nothing more is acknowledged. Check the disk and its free space, then restart the hub",
		JapaneseText: "記録のディスクで障害が発生したため、受付を停止しました。ディスクと空き容量を確認してからハブを再起動してください",
		Err:          err,
	}
}

func inUse(dir string) error {
	return &Fault{
		Kind:         ErrInUse,
		English:      fmt.Sprintf("another process uses the journal in %s; stop the hub that is running first", dir),
		JapaneseText: fmt.Sprintf("%s の記録は別のプロセスが使用中です。動いているハブを先に停止してください", dir),
	}
}
