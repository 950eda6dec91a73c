"""What both services stand on; nothing here knows a word of the trade (the conversation in `payment_contract` aside)."""
