// Package rpc is the door between processes: TLS 1.3 and the identity of the
// peer, limits, deadlines, and refusals as gRPC status in two languages.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	domain = "minato.example"

	// Bounds of a refusal on the wire: it travels in response headers, of
	// which gRPC and proxies take 16 KiB in base64.
	maxViolations = 50
	maxStatus     = 8 << 10
	maxText       = 1 << 10
	maxName       = 256

	// reasonMore marks the violation that counts those left out.
	reasonMore = "MORE"
)

// Refusal is an answer to bad input or a forbidden request: a code, a reason
// that programs may rely on, and all violations, in both languages.
type Refusal struct {
	Code       codes.Code
	Reason     string // such as TLP_MISSING
	Violations []Violation
}

// Violation is one thing wrong: with which field (empty when with none), and
// what to do next.
type Violation struct {
	Field, Reason, Japanese, English string
}

// Refuse makes a refusal with one violation.
func Refuse(code codes.Code, reason, field, ja, en string) *Refusal {
	return &Refusal{Code: code, Reason: reason, Violations: []Violation{{Field: field, Reason: reason, Japanese: ja, English: en}}}
}

// Error says all violations in English.
func (r *Refusal) Error() string {
	return r.say(func(v Violation) string { return v.English })
}

// Japanese says all violations in Japanese.
func (r *Refusal) Japanese() string {
	return r.say(func(v Violation) string { return v.Japanese })
}

func (r *Refusal) say(text func(Violation) string) string {
	if len(r.Violations) == 0 {
		return r.Reason
	}
	said := make([]string, len(r.Violations))
	for i, v := range r.Violations {
		said[i] = text(v)
		if v.Field != "" {
			said[i] = v.Field + ": " + said[i]
		}
	}
	return strings.Join(said, " ")
}

// GRPCStatus is the refusal on the wire: ErrorInfo and BadRequest with English
// descriptions and Japanese localized messages. It is below 8 KiB: at most 50
// violations, and a last one that counts those left out.
func (r *Refusal) GRPCStatus() *status.Status {
	info := &errdetails.ErrorInfo{Reason: clip(r.Reason, maxName), Domain: domain}
	bad := new(errdetails.BadRequest)
	message := clip(r.Reason, maxName)
	if len(r.Violations) > 0 {
		first := &Refusal{Violations: r.Violations[:1]}
		message = clip(first.Error(), maxText)
	}
	// Room for the envelope of the status and for the count at the end.
	size := proto.Size(info) + len(message) + 512
	for i, v := range r.Violations {
		f := &errdetails.BadRequest_FieldViolation{
			Field:            clip(v.Field, maxName),
			Reason:           clip(v.Reason, maxName),
			Description:      clip(v.English, maxText),
			LocalizedMessage: &errdetails.LocalizedMessage{Locale: "ja", Message: clip(v.Japanese, maxText)},
		}
		size += proto.Size(f) + 4
		if i == maxViolations || size > maxStatus {
			f = more(len(r.Violations) - i)
			bad.FieldViolations = append(bad.FieldViolations, f)
			break
		}
		bad.FieldViolations = append(bad.FieldViolations, f)
	}
	code := r.Code
	if code == codes.OK { // a refusal never reads as success
		code = codes.Unknown
	}
	st, err := status.New(code, message).WithDetails(info, bad)
	if err != nil { // cannot be: both details are valid messages
		return status.New(code, message)
	}
	return st
}

func more(n int) *errdetails.BadRequest_FieldViolation {
	return &errdetails.BadRequest_FieldViolation{
		Reason:           reasonMore,
		Description:      fmt.Sprintf("There are %d more. Correct these first and try again.", n),
		LocalizedMessage: &errdetails.LocalizedMessage{Locale: "ja", Message: fmt.Sprintf("ほかに %d 件あります。まずこれらを直してやり直してください。", n)},
	}
}

// clip cuts s to at most n bytes of valid UTF-8, which protobuf demands.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
		// Not half a character at the end.
		for i := len(s) - 1; i >= 0 && i >= len(s)-4; i-- {
			if s[i] < 0x80 {
				break
			}
			if s[i] >= 0xC0 {
				s = s[:i]
				break
			}
		}
		s += "…"
	}
	return strings.ToValidUTF8(s, "�")
}

// RefusalOf finds the refusal in an error of this process, or in the status
// error of a call that a minato process refused.
func RefusalOf(err error) (*Refusal, bool) {
	if err == nil {
		return nil, false
	}
	if r, ok := errors.AsType[*Refusal](err); ok && r != nil {
		return r, true
	}
	st, ok := status.FromError(err)
	if !ok || st.Code() == codes.OK {
		return nil, false
	}
	r, ours := &Refusal{Code: st.Code()}, false
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == domain {
				r.Reason, ours = d.GetReason(), true
			}
		case *errdetails.BadRequest:
			for _, f := range d.GetFieldViolations() {
				r.Violations = append(r.Violations, Violation{
					Field: f.GetField(), Reason: f.GetReason(),
					Japanese: f.GetLocalizedMessage().GetMessage(), English: f.GetDescription(),
				})
			}
		}
	}
	return r, ours
}

// Outside is what of err may leave the process: a refusal as its status, the
// end of a context as such, and "internal error" for everything else.
func Outside(err error) error {
	if err == nil {
		return nil
	}
	if r, ok := RefusalOf(err); ok {
		return r.GRPCStatus().Err()
	}
	switch {
	case errors.Is(err, context.Canceled):
		return status.FromContextError(context.Canceled).Err()
	case errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(context.DeadlineExceeded).Err()
	}
	switch st, _ := status.FromError(err); st.Code() {
	case codes.Canceled:
		return status.FromContextError(context.Canceled).Err()
	case codes.DeadlineExceeded:
		return status.FromContextError(context.DeadlineExceeded).Err()
	case codes.ResourceExhausted:
		if tooLarge(st) {
			return errTooLarge.GRPCStatus().Err()
		}
	}
	return status.Error(codes.Internal, "internal error")
}

var errTooLarge = Refuse(codes.ResourceExhausted, "MESSAGE_TOO_LARGE", "",
	"メッセージが大きすぎます。本文を短くするか、長い内容を添付にしてください。",
	"The message is too large. Shorten the text, or send the long part as an attachment.")

// tooLarge knows gRPC's own answer to a message above the limit; it is given
// before any of our code sees the call.
func tooLarge(st *status.Status) bool {
	return st.Code() == codes.ResourceExhausted && strings.HasPrefix(st.Message(), "grpc: ") && strings.Contains(st.Message(), "larger than max")
}

// ExitCode is what a command ends with after err: 0 done, 1 failed, 2 wrong
// input, 3 refused by policy, 4 not enrolled or not allowed, 5 the hub was not
// reached.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[*NotRunning](err); ok {
		return 1
	}
	code := status.Code(err)
	if r, ok := RefusalOf(err); ok {
		code = r.Code
	} else if errors.Is(err, context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	} else if st, ok := status.FromError(err); ok {
		code = st.Code()
	}
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.ResourceExhausted, codes.OutOfRange:
		return 2
	case codes.FailedPrecondition:
		return 3
	case codes.Unauthenticated, codes.PermissionDenied:
		return 4
	case codes.Unavailable, codes.DeadlineExceeded:
		return 5
	}
	return 1
}
