package main

import (
	"context"
	"errors"
	"os"

	"minato.example/internal/seal"
	"minato.example/node"
	pb "minato.example/proto/minato/v1"
)

// openSealed opens a report with the key of a person, which the node does not
// hold. The content exists in this process only.
func (a *app) openSealed(ctx context.Context, n pb.NodeServiceClient, id, keyFile string) (*pb.GetReportResponse, error) {
	key, err := readKey(keyFile)
	if err != nil {
		return nil, err
	}
	answer, err := n.GetReport(ctx, &pb.GetReportRequest{Report: id})
	if err != nil {
		return nil, err
	}
	in := answer.GetReceived()
	if !in.GetSealed() {
		return nil, usage(textf("%s は鍵なしで読めます", "%s needs no key", shortID(reportOf(answer))), textf("minato show %s", "minato show %s", shortID(reportOf(answer))))
	}
	var wrong error
	for _, person := range in.GetPersons() {
		sealed, err := n.GetSealed(ctx, &pb.GetSealedRequest{Report: in.GetReport(), Person: person, KeyId: key.Public().ID()})
		if err != nil {
			return nil, err
		}
		r, err := node.OpenSealed(sealed.GetDelivery(), sealed.GetContent(), person, key)
		if err != nil {
			wrong = errors.Join(wrong, err)
			continue
		}
		in.Title, in.Text, in.Kind, in.Sealed = r.GetTitle(), r.GetSummary(), r.GetKind(), false
		answer.Report = r
		return answer, nil
	}
	return nil, &failure{code: exitAccess, err: wrong,
		what: textf("この鍵では %s を開けません (鍵の指紋 %s)", "this key does not open %s (its fingerprint: %s)", shortID(in.GetReport()), key.Public().Fingerprint()),
		next: Text{"宛先の人の鍵ファイルを指定してください。鍵を作り直した後なら、発信元に minato forward で送り直しを頼んでください", "name the key file of the person it is for. If the key was made anew since, ask the source to send it again with minato forward"}}
}

// readKey reads a person's key, as `node person add --key-file` wrote it.
func readKey(path string) (*seal.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable("key", path, err)
	}
	key, err := seal.ParsePrivateKey(text)
	if err != nil {
		return nil, &failure{code: exitUsage, err: err,
			what: textf("--key %s は鍵のファイルではありません", "--key %s is no key file", plain(path)),
			next: Text{"minato node person add --key-file で作ったファイルを指定してください", "name the file that minato node person add --key-file made"}}
	}
	return key, nil
}
