package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	pb "minato.example/proto/minato/v1"

	"minato.example/internal/stix"
)

const (
	stixMediaType = "application/stix+json;version=2.1"
	partLimit     = 16 << 20  // the hub's usual limit for one part
	pieceSize     = 256 << 10 // bytes in one message
)

// partFile is a file that travels beside a report.
type partFile struct {
	flag string
	path string
	part *pb.Part // as the report names it
	data []byte   // of a bundle, which has been read and checked
}

// findParts describes what --stix and --attach name. The files are read, so
// that a wrong name or a bundle that is none shows before anything is stored.
func (f *reportFlags) findParts(a *app, r *pb.Report) error {
	if f.stix != "" {
		if f.stix == "-" && f.text == "-" {
			return usage(Text{"--stix と --text の両方を標準入力にはできません", "--stix and --text cannot both be stdin"},
				Text{"どちらかをファイルにしてください", "put one of them into a file"})
		}
		bundle, err := a.readInput("stix", f.stix, partLimit)
		if err != nil {
			return err
		}
		if _, err := stix.Scan(bundle); err != nil {
			return &failure{code: exitUsage, err: err,
				what: textf("--stix %s: %s", "--stix %s: %s", plain(f.stix), textOf(err)),
				next: Text{"バンドルを直すか、そのまま送るなら --attach を使ってください", "correct the bundle, or use --attach to send it as it is"}}
		}
		digest := sha256.Sum256(bundle)
		part := &pb.Part{
			Digest: digest[:], Size: uint64(len(bundle)), MediaType: stixMediaType, Name: partName(f.stix, "bundle.json"),
			Class: pb.DisclosureClass_DISCLOSURE_CLASS_TECHNIQUE,
		}
		if r.AttackTechnical == nil {
			r.AttackTechnical = &pb.AttackTechnical{}
		}
		r.AttackTechnical.StixBundle = part
		f.parts = append(f.parts, &partFile{flag: "stix", path: f.stix, part: part, data: bundle})
	}
	for _, path := range f.attach {
		part, err := attachment("attach", path)
		if err != nil {
			return err
		}
		r.Attachments = append(r.Attachments, part)
		f.parts = append(f.parts, &partFile{flag: "attach", path: path, part: part})
	}
	for _, path := range f.attachTechnical {
		part, err := attachment("attach-technical", path)
		if err != nil {
			return err
		}
		// The person who types this flag has looked at the file.
		part.Class, part.Sanitised = pb.DisclosureClass_DISCLOSURE_CLASS_TECHNIQUE, true
		r.Attachments = append(r.Attachments, part)
		f.parts = append(f.parts, &partFile{flag: "attach-technical", path: path, part: part})
	}
	if len(f.attach) > 0 {
		a.talk(Text{"添付はそのまま送ります。文書の作成者名などの付加情報は取り除かれません。被害の資料として扱い、同業には渡しません。",
			"attachments are sent as they are; hidden data such as an author's name is not removed. They count as damage and do not go to peers"})
	}
	return nil
}

// attachment describes a file. Nothing is known of what it tells, so it has
// the most careful class: damage.
func attachment(flag, path string) (*pb.Part, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, unreadable(flag, path, err)
	}
	defer file.Close()
	digest := sha256.New()
	var head bytes.Buffer
	size, err := io.Copy(io.MultiWriter(digest, &prefixWriter{w: &head, left: 512}), io.LimitReader(file, partLimit+1))
	if err != nil {
		return nil, unreadable(flag, path, err)
	}
	if size == 0 || size > partLimit {
		return nil, usage(
			textf("--%s %s の大きさは 1 バイトから %d MiB までです", "--%s %s must have between 1 byte and %d MiB", flag, plain(path), partLimit>>20),
			Text{"分けるか、要るところだけにしてください", "split it or send only what is needed"})
	}
	media := mime.TypeByExtension(filepath.Ext(path))
	if media == "" {
		media = http.DetectContentType(head.Bytes())
	}
	return &pb.Part{
		Digest: digest.Sum(nil), Size: uint64(size), MediaType: cut(media, 100), Name: partName(path, "attachment"),
		Class: pb.DisclosureClass_DISCLOSURE_CLASS_DAMAGE,
	}, nil
}

// partName is the name that recipients see: never a path of this machine.
func partName(path, other string) string {
	if path == "-" {
		return other
	}
	return or(fileName(filepath.Base(path)), other)
}

// prefixWriter keeps the first bytes and swallows the rest.
type prefixWriter struct {
	w    *bytes.Buffer
	left int
}

func (p *prefixWriter) Write(b []byte) (int, error) {
	n := min(p.left, len(b))
	p.left -= n
	p.w.Write(b[:n])
	return len(b), nil
}

// storeParts brings the files to the node, which works out their digests. They
// must be those that the report names.
func (f *reportFlags) storeParts(ctx context.Context, n pb.NodeServiceClient) error {
	for _, p := range f.parts {
		var in io.Reader = bytes.NewReader(p.data)
		if p.data == nil {
			file, err := os.Open(p.path)
			if err != nil {
				return unreadable(p.flag, p.path, err)
			}
			defer file.Close()
			in = file
		}
		stored, err := addPart(ctx, n, p.part, in)
		if err != nil {
			return err
		}
		if !bytes.Equal(stored.GetDigest(), p.part.GetDigest()) {
			return usage(textf("--%s %s が読んでいる間に変わりました", "--%s %s changed while it was read", p.flag, plain(p.path)),
				Text{"書き込みが終わってから、もう一度実行してください", "run it again when nobody writes to the file"})
		}
	}
	return nil
}

func addPart(ctx context.Context, n pb.NodeServiceClient, part *pb.Part, in io.Reader) (*pb.Part, error) {
	stream, err := n.AddPart(ctx)
	if err != nil {
		return nil, err
	}
	described := &pb.Part{Name: part.GetName(), MediaType: part.GetMediaType(), Class: part.GetClass()}
	buf := make([]byte, pieceSize)
	for {
		count, err := io.ReadFull(in, buf)
		if count > 0 {
			piece := &pb.AddPartRequest{Part: described, Data: buf[:count]}
			described = nil
			if err := stream.Send(piece); err == io.EOF {
				break // the node has ended the call; CloseAndRecv says why
			} else if err != nil {
				return nil, err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		} else if err != nil {
			return nil, err
		}
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return nil, err
	}
	return answer.GetPart(), nil
}

// mediaWord is a media type as people read it.
func mediaWord(media string) string {
	media, _, _ = strings.Cut(media, ";")
	return plain(media)
}
