{
  "version": 1,
  "signatures": [
    {
      "keyId": "21fe31dfa154a261626bf854046fd227",
      "algorithm": "ed25519",
      "signature": "29aa5b10d1825a91ee48d2f4ea0b29c7e195053a3ef499bb131f89029c45c512b07209b3ef16830b13632437ec8788e6ff7f9310f10503e5d38d46c004270f08"
    }
  ]
}
