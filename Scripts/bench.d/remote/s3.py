"""What a bucket holds, by its own listing: neither tool is asked about itself."""

import datetime
import hashlib
import hmac
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass


@dataclass
class Server:
    """An object store as Scripts/object-store prints it: NAME=ENDPOINT,CREDENTIALS,BUCKET."""

    name: str
    endpoint: str
    credentials: str
    bucket: str

    @staticmethod
    def parse(text):
        name, rest = text.strip().split("=", 1)
        return Server(name, *rest.rsplit(",", 2))

    def keys(self):
        with open(self.credentials, encoding="ascii") as file:
            values = dict(line.strip().split(" = ") for line in file if " = " in line)
        return values["aws_access_key_id"], values["aws_secret_access_key"]

    def stored_bytes(self, prefix):
        """Of all objects whose keys begin with `prefix`."""
        total, token = 0, None
        while True:
            query = {"list-type": "2", "prefix": prefix}
            if token:
                query["continuation-token"] = token
            page = self._get(query)
            total += sum(int(size) for size in re.findall(r"<Size>(\d+)</Size>", page))
            found = re.search(r"<NextContinuationToken>([^<]+)<", page)
            if not found or "<IsTruncated>true" not in page:
                return total
            token = found[1]

    def _get(self, query):
        """A listing, with version 4 of AWS's signatures."""
        key, secret = self.keys()
        host = urllib.parse.urlsplit(self.endpoint).netloc
        date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        text = "&".join(
            f"{urllib.parse.quote(name, safe='')}={urllib.parse.quote(query[name], safe='')}" for name in sorted(query)
        )
        payload = hashlib.sha256(b"").hexdigest()
        headers = {"host": host, "x-amz-content-sha256": payload, "x-amz-date": date}
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = f"GET\n/{self.bucket}\n{text}\n{lines}\n{names}\n{payload}"
        scope = f"{date[:8]}/us-east-1/s3/aws4_request"
        code = ("AWS4" + secret).encode()
        for part in scope.split("/"):
            code = hmac.new(code, part.encode(), hashlib.sha256).digest()
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = hmac.new(code, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}".encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        url = f"{self.endpoint}/{self.bucket}?{text}"
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return answer.read().decode()
