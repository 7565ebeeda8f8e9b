from components.adapt_classifier.stage import STAGE

STAGE.main()
