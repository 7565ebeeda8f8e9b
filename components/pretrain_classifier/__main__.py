from components.pretrain_classifier.stage import STAGE

STAGE.main()
